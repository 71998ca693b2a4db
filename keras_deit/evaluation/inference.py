"""Compiled inference: a model as a function from arrays to arrays, on all of its devices."""

import functools

import keras
import numpy as np
from keras import ops

from keras_deit.distribution.replicas import local_count
from keras_deit.utils.errors import UserError
from keras_deit.utils.gradients import without_gradients
from keras_deit.utils.validation import gives_fused_logits


def predictor(model, heads=None, variables=None, jit_compile=False):
    """Makes a model's inference a function, compiled with TensorFlow or JAX, eager with PyTorch.

    Args:
        model: any Keras model of one input.
        heads: a function from a tensor of images to a list of tensors (images, ...). Default: the
            logits of each of the model's heads; of a model without ``logits``, or one that
            overrides ``call``, what its call gives.
        variables: list of those that ``heads`` reads. Default: the model's.
        jit_compile: bool. Whether XLA compiles it on TensorFlow too, as on JAX. Default False.

    Returns:
        A function from an array of images, float32 (count, height, width, 3), to the list of
        arrays. It uses the weights that the model has when it is called, and all devices of this
        process that the model is on.

    Raises:
        UserError: by the function, without ``heads``, if the model does not give one output
            (batch, num_classes).

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> model = kd.DeiT(16, patch_size=8, width=12, depth=1, heads=3, num_classes=5)
        >>> predict = kd.evaluation.predictor(model)
        >>> class_head, distillation_head = predict(np.zeros((2, 16, 16, 3), "float32"))
        >>> class_head.shape
        (2, 5)
    """

    def logits(images):
        if gives_fused_logits(model):
            return model.logits(images)

        outputs = model(images, training=False)
        shape = getattr(outputs, "shape", None)
        if shape is None or len(shape) != 2:
            kind = type(outputs).__name__ if shape is None else tuple(shape)
            raise UserError(
                f"model {model.name} gives {kind}: expected one output (batch, num_classes)"
            )
        return [outputs]

    heads = heads or logits
    variables = model.variables if variables is None else variables
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _tensorflow_predictor(model, heads, jit_compile)
    if backend == "jax":
        return _jax_predictor(variables, heads)
    return _eager_predictor(heads)


def _tensorflow_predictor(model, heads, jit_compile):
    import tensorflow as tf

    strategy = model.distribute_strategy
    # Of this process: each evaluates different images. A model that was built outside of a
    # strategy's scope has one replica.
    several = strategy.num_replicas_in_sync > 1
    replicas = local_count(strategy) if several else 1

    def on_replicas(*chunks):
        """``heads`` with one chunk of the images on each replica."""

        def chunk_of(context):
            return chunks[context.replica_id_in_sync_group % replicas]

        images = strategy.experimental_distribute_values_from_function(chunk_of)
        outputs = strategy.run(heads, (images,))
        return [tf.concat(strategy.experimental_local_results(head), axis=0) for head in outputs]

    @functools.cache
    def compiled(image_shape, dtype):
        # The number of images stays open, so that a smaller last batch is not compiled anew.
        signature = [tf.TensorSpec((None, *image_shape), dtype)] * replicas
        function = heads if replicas == 1 else on_replicas
        # Without autograph, as in Keras' own predict: converting the code takes a second.
        return tf.function(
            function,
            input_signature=signature,
            autograph=False,
            jit_compile=jit_compile and replicas == 1,
        )

    # A TPU compiles for each batch size, so its batches are all padded to the largest one.
    pads_batches = isinstance(strategy, tf.distribute.TPUStrategy)
    largest = 0

    def predict(images):
        nonlocal largest
        count = len(images)
        largest = max(largest, count)

        padded = _pad(images, largest if pads_batches else count, replicas)
        chunks = tf.split(tf.convert_to_tensor(padded), replicas)
        outputs = compiled(padded.shape[1:], chunks[0].dtype)(*chunks)
        return [np.array(head)[:count] for head in outputs]

    return predict


def _jax_predictor(variables, heads):
    import jax

    # Each process evaluates different images, so its devices are a separate mesh.
    devices = variables[0].value.sharding.addressable_devices
    devices = sorted(devices, key=lambda device: device.id)
    mesh = jax.sharding.Mesh(np.array(devices), ("batch",))
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    split_by_image = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))

    @jax.jit
    def compiled(values, images):
        with keras.StatelessScope(state_mapping=zip(variables, values, strict=True)):
            return heads(images)

    def local_value(variable):
        """A variable's value, without the copies on other processes' devices."""
        return jax.device_put(variable.value.addressable_data(0), replicated)

    largest = 0

    def predict(images):
        nonlocal largest
        count = len(images)
        # JAX compiles for each batch size, so a smaller last batch is padded.
        largest = max(largest, count)

        padded = jax.device_put(_pad(images, largest, len(devices)), split_by_image)
        outputs = compiled([local_value(variable) for variable in variables], padded)
        return [np.asarray(head)[:count] for head in outputs]

    return predict


def _eager_predictor(heads):
    def predict(images):
        with without_gradients():
            outputs = heads(ops.convert_to_tensor(images))
        return [ops.convert_to_numpy(head) for head in outputs]

    return predict


def _pad(images, count, multiple):
    """Adds black images: to at least ``count`` images, and a multiple of ``multiple``."""
    images = np.asarray(images)
    count = -(-count // multiple) * multiple
    if len(images) == count:
        return images
    black = np.zeros((count - len(images), *images.shape[1:]), images.dtype)
    return np.concatenate([images, black])
