"""LoRA adapters (Hu et al., 2021, arXiv 2106.09685): kept in files, or merged into kernels."""

import numpy as np
from keras import ops

from keras_deit.models.policies import layer_policy, paths, quantized_layers
from keras_deit.utils.errors import UserError
from keras_deit.utils.keras_private import all_layers

# How Keras names an adapter's two matrices (keras/src/layers/core/dense.py, enable_lora).
ADAPTER = "lora_kernel_"


class Adaptable:
    """A mixin before a Keras layer that has ``enable_lora``: a model's file keeps its adapter.

    Keras' own merge the adapter into the kernel when they save, rounded to the dtype that they
    compute in, and load it as zeros, which do not train. That is also what other files get: they
    are for any model of this shape.
    """

    # bool. Whether the next file that the layer is saved to is one of its model.
    keeps_adapter = False

    def save_own_variables(self, store):
        keeps_adapter, self.keeps_adapter = self.keeps_adapter, False
        if not (keeps_adapter and self.lora_enabled):
            super().save_own_variables(store)
            return
        for variable in self.weights:
            store[variable.name] = variable

    def load_own_variables(self, store):
        if f"{ADAPTER}a" in set(store.keys()):  # a store has keys, and no __contains__
            for variable in self.weights:
                variable.assign(store[variable.name])
            return

        # A merged file: the adapter begins anew, and so does nothing yet.
        start = ops.copy(self.lora_kernel_a) if self.lora_enabled else None
        super().load_own_variables(store)
        if start is not None:
            self.lora_kernel_a.assign(start)


def keep_adapters(model, keep):
    """Has a model's layers keep their adapters, or merge them, in the file that is next saved."""
    for layer in all_layers(model):
        if isinstance(layer, Adaptable):
            layer.keeps_adapter = keep


def adapter_settings(model):
    """Rank and alpha of each layer with an adapter: a dict of lists, by the layers' paths."""
    return {
        path: [layer.lora_rank, layer.lora_alpha]
        for path, layer in paths(model).items()
        if _is_adapted(layer)
    }


def enable_adapters(model, settings):
    """Adds new adapters, which change nothing yet, as ``adapter_settings`` describes them."""
    layers = paths(model)
    for path, (rank, alpha) in settings.items():
        layers[path].enable_lora(rank, lora_alpha=alpha)


def merged_weights(model):
    """A model's weights as a float32 model without adapters has them.

    Args:
        model: an ``ImageClassifier``.

    Returns:
        A list of (variable, function that reads its float32 array), in the order of
        ``model.weights``, without the variables of adapters.

    Raises:
        UserError: the model is quantized.
    """
    quantized = quantized_layers(model)
    if quantized:
        mode = layer_policy(quantized[0]).quantization_mode
        raise UserError(
            f"the model is quantized to {mode} and this needs float weights: use the model from"
            " before quantize(), or save this one as a .keras file"
        )

    adapters = {}
    for layer in all_layers(model):
        if _is_adapted(layer):
            by_name = {variable.name: variable for variable in layer.variables}
            adapters[id(by_name["kernel"])] = (
                by_name[f"{ADAPTER}a"],
                by_name[f"{ADAPTER}b"],
                layer.lora_alpha / layer.lora_rank,
            )

    return [
        (variable, _reader(variable, adapters.get(id(variable))))
        for variable in model.weights
        if not variable.name.startswith(ADAPTER)
    ]


def _is_adapted(layer):
    return getattr(layer, "lora_enabled", False)


def _reader(variable, adapter):
    def read():
        value = _float32(variable)
        if adapter is None:
            return value
        # In float32, where Keras' own ``layer.kernel`` is in the layer's compute dtype.
        a, b, scale = adapter
        return value + np.float32(scale) * (_float32(a) @ _float32(b))

    return read


def _float32(variable):
    return np.asarray(ops.convert_to_numpy(variable), np.float32)
