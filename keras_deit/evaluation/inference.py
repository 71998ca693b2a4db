"""Compiled inference: a model as a function from arrays to arrays, on all of its devices."""

import functools

import keras
import numpy as np
from keras import ops


def predictor(model, heads=None):
    """A function from images to a list of arrays, the logits of each head, or what ``heads`` makes
    of images: compiled once, and with the weights that the model has when it is called. It uses all
    devices of this process that the model is on."""

    def logits(images):
        return model.logits(images) if hasattr(model, "logits") else [model(images, training=False)]

    heads = heads or logits
    backend = keras.backend.backend()
    if backend == "jax":
        return _jax_predictor(model, heads)
    if backend == "tensorflow":
        return _tensorflow_predictor(model, heads)
    return lambda images: list(map(ops.convert_to_numpy, heads(ops.convert_to_tensor(images))))


def _tensorflow_predictor(model, heads):
    import tensorflow as tf

    strategy = model.distribute_strategy
    count = len(strategy.extended.worker_devices) if strategy.num_replicas_in_sync > 1 else 1

    @functools.cache
    def compiled(shape, dtype):
        signature = [tf.TensorSpec((None, *shape), dtype)] * count
        if count == 1:
            return tf.function(heads, input_signature=signature)

        def on_all(*parts):
            own = strategy.experimental_distribute_values_from_function(
                lambda context: parts[context.replica_id_in_sync_group % count]
            )
            results = strategy.run(heads, (own,))
            local = strategy.experimental_local_results
            return [tf.concat(local(head), axis=0) for head in results]

        return tf.function(on_all, input_signature=signature)

    largest = 0

    def predict(images):
        nonlocal largest
        rows = len(images)
        largest = max(largest, rows)
        # A TPU compiles for every size, so that there it has to be one.
        whole = largest if isinstance(strategy, tf.distribute.TPUStrategy) else rows
        images = tf.convert_to_tensor(_padded(images, whole, count))
        outputs = compiled(tuple(images.shape[1:]), images.dtype)(*tf.split(images, count))
        return [np.array(head)[:rows] for head in outputs]

    return predict


def _jax_predictor(model, heads):
    import jax

    devices = model.variables[0].value.sharding.addressable_devices
    devices = sorted(devices, key=lambda device: device.id)
    mesh = jax.sharding.Mesh(np.array(devices), ("batch",))
    everywhere, by_rows = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
        for axes in ((), ("batch",))
    )

    @jax.jit
    def compiled(values, images):
        with keras.StatelessScope(state_mapping=zip(model.variables, values, strict=True)):
            return heads(images)

    def here(variable):
        """The value without the other processes' copies of it."""
        return jax.device_put(variable.value.addressable_data(0), everywhere)

    largest = 0

    def predict(images):
        nonlocal largest
        rows = len(images)
        largest = max(largest, rows)  # another size would be compiled anew
        images = jax.device_put(_padded(images, largest, len(devices)), by_rows)
        outputs = compiled([here(variable) for variable in model.variables], images)
        return [np.asarray(head)[:rows] for head in outputs]

    return predict


def _padded(images, rows, count):
    """The images and black ones, at least ``rows`` and a multiple of ``count``."""
    images, rows = np.asarray(images), -(-rows // count) * count
    if len(images) == rows:
        return images
    return np.concatenate([images, np.zeros((rows - len(images), *images.shape[1:]), images.dtype)])
