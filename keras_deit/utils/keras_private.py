"""Private names of Keras that this project relies on, on every backend.

Everything that Keras may change without notice is in this file, in ``tensorflow_private.py`` and in
``jax_private.py``; the rest of the library uses it under the public names given here. Each file
lists its names in ``NAMES``, and ``tests/utils/test_private_names.py`` asserts that the installed
Keras has each of them with the signature that is expected. Lines are those of Keras 3.15.1.
"""

import functools
from dataclasses import dataclass

import keras
from keras import ops
from keras.src.backend import AutocastScope

from keras_deit.utils.errors import UserError


@dataclass(frozen=True)
class PrivateName:
    """A private name of another library.

    Attributes:
        owner: dotted path of the class that has it.
        name: a method, or an attribute of instances.
        parameters: of a method, the names of its parameters, self aside; None of an attribute.
        source: file and line of the original.
        used_for: what depends on it, and where to look if it changes.
    """

    owner: str
    name: str
    parameters: tuple[str, ...] | None
    source: str
    used_for: str


_OPTIMIZER = "keras.src.optimizers.base_optimizer.BaseOptimizer"
_ADAM = "keras.src.optimizers.adam.Adam"

NAMES = (
    PrivateName(
        _OPTIMIZER,
        "_backend_apply_gradients",
        ("grads", "trainable_variables"),
        "keras/src/optimizers/base_optimizer.py:535",
        "OptimizerHooks: gradients are summed over replicas before they are clipped",
    ),
    PrivateName(
        _OPTIMIZER,
        "_update_model_variables_moving_average",
        ("trainable_variables",),
        "keras/src/optimizers/base_optimizer.py:970",
        "OptimizerHooks: the moving average of the weights",
    ),
    PrivateName(
        _OPTIMIZER,
        "_model_variables_moving_average",
        None,
        "keras/src/optimizers/base_optimizer.py:213",
        "OptimizerHooks.averages",
    ),
    PrivateName(
        _OPTIMIZER,
        "_get_variable_index",
        ("variable",),
        "keras/src/optimizers/base_optimizer.py:238",
        "OptimizerHooks.variable_index",
    ),
    PrivateName(
        _OPTIMIZER,
        "_use_weight_decay",
        ("variable",),
        "keras/src/optimizers/base_optimizer.py:923",
        "OptimizerHooks.decays",
    ),
    PrivateName(_ADAM, "_momentums", None, "keras/src/optimizers/adam.py:93", "adam_moments"),
    PrivateName(_ADAM, "_velocities", None, "keras/src/optimizers/adam.py:93", "adam_moments"),
    PrivateName(
        "keras.src.trainers.trainer.Trainer",
        "_get_metrics_result_or_logs",
        ("logs",),
        "keras/src/trainers/trainer.py:1035",
        "TrainerHooks: an epoch's metrics are those of all replicas",
    ),
    PrivateName(
        "keras.src.layers.layer.Layer",
        "_flatten_layers",
        ("include_self", "recursive"),
        "keras/src/layers/layer.py:1708",
        "all_layers: freezing the statistics of batch normalization",
    ),
    PrivateName(
        "keras.src.backend.common.keras_tensor.KerasTensor",
        "_keras_history",
        None,
        "keras/src/ops/node.py:77",
        "last_operation: whether a teacher ends in a softmax",
    ),
    PrivateName(
        "keras.src.layers.layer.Layer",
        "rematerialized_call",
        ("layer_call", "args", "kwargs"),
        "keras/src/layers/layer.py:1770",
        "make_rematerializable: keras.RematScope with layers that take training",
    ),
    PrivateName(
        "keras.src.layers.layer.Layer",
        "_remat_mode",
        None,
        "keras/src/layers/layer.py:1177",
        "make_rematerializable: the layers that a RematScope names",
    ),
    PrivateName(
        "keras.src.backend.common.variables.AutocastScope",
        "__init__",
        ("dtype",),
        "keras/src/backend/common/variables.py:684",
        "make_rematerializable: variables in the layer's compute dtype, for the gradients too",
    ),
)


class OptimizerHooks:
    """A mixin before a Keras optimizer: PyTorch's clipping and moving average.

    - Gradients are summed over replicas, then clipped. Keras clips each replica's own.
    - The moving average is timm's ``ModelEma``: it begins at the initial weights, and never
      overwrites the weights. Keras' begins at the weights after the first step.
    """

    def _backend_apply_gradients(self, grads, trainable_variables):
        # Only Keras on TensorFlow has replicas to sum over.
        sum_over_replicas = getattr(super(), "_all_reduce_sum_gradients", None)
        if sum_over_replicas is not None:
            pairs = list(zip(grads, trainable_variables, strict=True))
            grads = [gradient for gradient, _ in sum_over_replicas(pairs)]

        super()._backend_apply_gradients(grads, trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        """Does nothing: they are already summed."""
        return grads_and_vars

    def _update_model_variables_moving_average(self, trainable_variables):
        for average, variable in zip(self.averages, trainable_variables, strict=True):
            average.assign(self.ema_momentum * average + (1 - self.ema_momentum) * variable)

    def build(self, variables):
        already_built = self.built
        super().build(variables)

        if self.use_ema and not already_built:
            for average, variable in zip(self.averages, variables, strict=True):
                average.assign(ops.copy(variable))  # without a copy JAX would share its memory

    def finalize_variable_values(self, var_list):
        """Does nothing: Keras would overwrite the weights with their moving average here."""

    @property
    def averages(self):
        """The moving average of each trainable variable of the model; empty without ``use_ema``."""
        return self._model_variables_moving_average if self.use_ema else []

    def variable_index(self, variable):
        """The position of a variable among those the optimizer was built for."""
        return self._get_variable_index(variable)

    def decays(self, variable):
        """Whether weight decay applies to a variable."""
        return self._use_weight_decay(variable)

    def adam_moments(self, variable):
        """Adam's first and second moment of a variable's gradient."""
        index = self.variable_index(variable)
        return self._momentums[index], self._velocities[index]


class TrainerHooks:
    """A mixin before ``keras.Model``: metrics of all replicas at the end of an epoch."""

    def _get_metrics_result_or_logs(self, logs):
        # Keras' own reads the metrics, and so all replicas, only if ``logs`` has every metric. The
        # logs of a test step lack those of the distillation.
        results = self.get_metrics_result()
        return {name: value for name, value in results.items() if name in logs} or logs


def all_layers(model):
    """The model and every layer in it, nested ones too."""
    return model._flatten_layers()


def last_operation(model):
    """The layer or operation that gives the output of a functional or sequential model; of another
    model, the model itself."""
    operation = model
    while getattr(operation, "outputs", None):
        operation = operation.outputs[0]._keras_history.operation
    return operation


def make_rematerializable(layer):
    """Lets a layer that was made in a ``keras.RematScope`` be computed again for the gradients."""
    if layer._remat_mode:
        keras_call = layer.rematerialized_call
        layer.rematerialized_call = functools.partial(_rematerialized_call, layer, keras_call)


def _rematerialized_call(layer, keras_call, layer_call, *args, **kwargs):
    """Keras' method, for layers with arguments such as ``training``: TensorFlow cannot recompute a
    call with keyword arguments, and JAX makes tensors of them. They are bound here.

    A layer with state, such as random numbers or batch statistics, would draw other numbers when it
    is recomputed, or change its statistics twice. It is not; the layers in it without state are.
    Neither is a model that is not named: to recompute all of it at once would free no memory, and
    on JAX Keras cannot infer the size of its outputs within a training step.

    Raises:
        UserError: the scope names a layer that has state.
    """
    if _has_state(layer):
        if layer.name in layer._remat_mode.layer_names:
            raise UserError(
                f"RematScope cannot recompute layer {layer.name}, which draws random numbers or has"
                " batch statistics: expected the names of layers in it, or mode='full'"
            )
        return layer_call

    if isinstance(layer, keras.Model) and layer.name not in layer._remat_mode.layer_names:
        return layer_call

    if any(ops.is_tensor(value) for value in keras.tree.flatten(kwargs)):
        return keras_call(layer_call, *args, **kwargs)

    def bound_call(*args):
        # When it is computed again, Keras is no longer in the layer's own scope.
        with AutocastScope(layer.compute_dtype if layer.autocast else None):
            return layer_call(*args, **kwargs)

    call = keras_call(bound_call, *args, **kwargs)
    return lambda *args, **_: call(*args)


def _has_state(layer):
    """Whether a call changes variables of a layer or of inner ones; dropout of rate 0 does not."""
    unused = {
        id(variable)
        for inner in all_layers(layer)
        if getattr(inner, "rate", None) == 0
        for variable in inner.variables
    }
    return any(id(variable) not in unused for variable in layer.non_trainable_variables)
