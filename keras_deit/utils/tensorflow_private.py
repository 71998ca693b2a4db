"""Private names of Keras on TensorFlow that this project relies on; see ``keras_private.py``."""

import keras
import tensorflow as tf

from keras_deit.utils.keras_private import PrivateName

_TRAINER = "keras.src.backend.tensorflow.trainer.TensorFlowTrainer"
_EPOCH_ITERATOR = "keras.src.backend.tensorflow.trainer.TFEpochIterator"

NAMES = (
    PrivateName(
        _TRAINER,
        "_make_function",
        ("step_function",),
        "keras/src/backend/tensorflow/trainer.py:130",
        "TensorFlowTrainerHooks: several workers",
    ),
    PrivateName(
        _TRAINER,
        "_maybe_symbolic_build",
        ("iterator", "data_batch"),
        "keras/src/backend/tensorflow/trainer.py:713",
        "TensorFlowTrainerHooks: replicas with batches of different sizes",
    ),
    PrivateName(
        _TRAINER,
        "_distribute_strategy",
        None,
        "keras/src/backend/tensorflow/trainer.py:37",
        "TensorFlowTrainerHooks: whether the model was made under a strategy",
    ),
    PrivateName(
        "keras.src.trainers.trainer.Trainer",
        "_compile_metrics",
        None,
        "keras/src/trainers/trainer.py:35",
        "TensorFlowTrainerHooks: whether the metrics have their variables",
    ),
    PrivateName(
        _EPOCH_ITERATOR,
        "_get_iterator",
        (),
        "keras/src/backend/tensorflow/trainer.py:758",
        "TensorFlowTrainerHooks: an epoch iterator gives (begin, end, iterator)",
    ),
    PrivateName(
        "keras.src.backend.tensorflow.optimizer.TFOptimizer",
        "_all_reduce_sum_gradients",
        ("grads_and_vars",),
        "keras/src/backend/tensorflow/optimizer.py:141",
        "keras_private.OptimizerHooks: gradients are summed once, before they are clipped",
    ),
    PrivateName(
        "tensorflow.python.data.ops.dataset_ops.DatasetV2",
        "_inputs",
        (),
        "tensorflow/python/data/ops/dataset_ops.py:415",
        "rows_and_batch_size: the dataset that another one is made of",
    ),
    PrivateName(
        "tensorflow.python.data.ops.batch_op._BatchDataset",
        "_batch_size",
        None,
        "tensorflow/python/data/ops/batch_op.py:56",
        "rows_and_batch_size: the size of batches, of which the last may be smaller",
    ),
)


class TensorFlowTrainerHooks:
    """A mixin before ``keras.Model``: ``fit`` under ``MultiWorkerMirroredStrategy``, and with
    replicas whose batches differ in size."""

    def _make_function(self, step_function):
        """The function that ``fit`` and ``evaluate`` call for each step.

        Keras' own, except for several processes: there it would average the logs of the replicas
        over an axis that a scalar does not have. Here the first replica of a process gives the
        logs of a step; an epoch's metrics are read from all replicas.
        """
        strategy = self.distribute_strategy
        if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return super()._make_function(step_function)

        def run(data):
            results = strategy.run(step_function, (data,))
            local = strategy.experimental_local_results
            return keras.tree.map_structure(lambda value: local(value)[0], results)

        step = run if self.run_eagerly else tf.function(run, reduce_retracing=True)
        return lambda iterator: step(next(iterator))

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds the metrics from the shapes of a batch.

        Keras looks at a batch even if nothing is left to build, and at the mean of the replicas'
        batches, which fails if their sizes differ. Here it is the first replica's.
        """
        if self._compile_metrics is None or self._compile_metrics.built:
            return

        if iterator is not None and self._distribute_strategy is not None:
            _, _, batches = next(iter(iterator))
            local = self.distribute_strategy.experimental_local_results
            data_batch = keras.tree.map_structure(lambda x: local(x)[0], next(batches))

        super()._maybe_symbolic_build(data_batch=data_batch)


def rows_and_batch_size(dataset):
    """How many rows a dataset divides into batches, and of which size; None if not known.

    Args:
        dataset: a ``tf.data.Dataset`` of batches; one of a strategy is not known.
    """
    if not isinstance(dataset, tf.data.Dataset):
        return None

    shape = keras.tree.flatten(dataset.element_spec)[0].shape
    if shape.rank and shape[0] is not None:
        return shape[0], shape[0]

    # The batches are those of ``batch`` if nothing after it, such as map, changes their number.
    count = int(dataset.cardinality())
    while not hasattr(dataset, "_batch_size"):
        inputs = dataset._inputs()
        if len(inputs) != 1 or count < 0 or int(inputs[0].cardinality()) != count:
            return None
        (dataset,) = inputs

    batch_size = tf.get_static_value(dataset._batch_size)
    rows = int(dataset._inputs()[0].cardinality())
    return (rows, int(batch_size)) if batch_size is not None and rows >= 0 else None
