"""Dtype policies of a model's layers: handed to each layer, and saved by its path."""

import keras
from keras.dtype_policies import DTypePolicyMap

from keras_deit.utils.keras_private import all_layers, make_rematerializable


def own_policy(dtype):
    """A constructor's ``dtype`` as a policy that no other model shares.

    Args:
        dtype: name of a policy, a ``keras.DTypePolicy``, a ``DTypePolicyMap`` from layers' paths to
            policies, the config of one of them, or None, the global policy.
    """
    policy = keras.dtype_policies.get(dtype)
    if not isinstance(policy, DTypePolicyMap):
        return policy

    # A copy, as a layer whose policy is set changes the map. With its default written out: Keras
    # would look up another global policy when the model is loaded.
    return DTypePolicyMap(policy.default_policy, dict(policy))


def layer_policy(layer):
    """The ``keras.DTypePolicy`` that a layer computes with."""
    policy = layer.dtype_policy
    if not isinstance(policy, DTypePolicyMap):
        return policy
    return policy[layer.path] if layer.path else policy.default_policy


def model_policy(model):
    """The policy that recreates a model's layers: a ``DTypePolicyMap`` if they are not alike."""
    default = layer_policy(model)
    others = {
        path: layer_policy(layer)
        for path, layer in paths(model).items()
        if layer_policy(layer) != default
    }
    return DTypePolicyMap(default, others) if others else default


def paths(model):
    """The layers in a model by their paths, which begin with the model's name.

    Layers that were never built, and so have neither a path nor variables, are left out.
    """
    # Without the name scopes that the model was built in.
    outer = len(model.path) - len(model.name)
    layers = (layer for layer in all_layers(model) if layer is not model and layer.path)
    return {layer.path[outer:]: layer for layer in layers}


def build_layer(parent, layer, input_shape):
    """Builds a layer of ``parent``, in the ``build`` of ``parent``.

    Args:
        parent: the layer or model that it is an attribute of.
        layer: a Keras layer, with the ``dtype_policy`` of ``parent``.
        input_shape: tuple.
    """
    policy = layer.dtype_policy
    # Keras' Dense looks for its quantization in its own policy, and not in a map.
    if isinstance(policy, DTypePolicyMap) and isinstance(layer, keras.layers.Dense):
        layer.dtype_policy = policy[f"{parent.path}/{layer.name}"]
    layer.build(input_shape)
    make_rematerializable(layer)


def is_float32(model):
    """Whether every layer of a model has float32 variables and computes in float32."""
    float32 = keras.DTypePolicy("float32")
    return all(layer_policy(layer) == float32 for layer in all_layers(model))


def quantized_layers(model):
    """The layers whose weights ``quantize`` has changed, a list."""
    return [layer for layer in all_layers(model) if layer_policy(layer).quantization_mode]
