"""A training step on TensorFlow, under any strategy of ``tf.distribute``."""

import keras
import tensorflow as tf

from keras_deit.distillation.losses import images_in
from keras_deit.distribution import replicas
from keras_deit.utils.errors import UserError


class TensorFlowSteps:
    """Stands before ``keras.Model`` in a class; see ``Steps``."""

    def home(self):
        """The scope of the strategy that the model was made under."""
        return self.distribute_strategy.scope()

    def compile(self, *args, jit_compile="auto", **kwargs):
        several = replicas.count() > 1
        super().compile(*args, jit_compile=False if several else jit_compile, **kwargs)
        # The exchange between replicas cannot be compiled. What comes before it can.
        alone = several and jit_compile is True and not self.run_eagerly
        self.compiles_replicas = alone
        self._differentiate = (
            tf.function(self._gradients, jit_compile=True) if alone else self._gradients
        )

    def train_step(self, data):
        """One update with the gradients of the whole batch's mean loss."""
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        self.weigh(weights, replicas.count() * self.accumulate)
        whole = replicas.total(images_in(images, weights))
        gradients = self._differentiate(images, labels, weights, whole)
        self.optimizer.apply(gradients, self.trainable_weights)
        return self.results(training=True)

    def test_step(self, data):
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        self.weigh(weights, replicas.count())
        self.forward(images, labels, weights, training=False)
        return self.results(training=False)

    def _gradients(self, images, labels, weights, whole):
        """Those of these images' part in the mean loss of ``whole`` images: what replicas and parts
        of a batch have to sum."""
        count = self.accumulate
        if count == 1:
            return self._part(images, labels, weights, whole)
        batch = [x for x in (images, labels, weights) if x is not None]
        wrong = f"a batch does not divide into {count} parts"
        if (images.shape[0] or 0) % count:
            raise UserError(f"{wrong}: expected a multiple, or another accumulate")
        with tf.control_dependencies(
            [tf.debugging.assert_equal(tf.shape(images)[0] % count, 0, wrong)]
        ):
            batch = [tf.identity(x) for x in batch]
        parts = [tf.reshape(x, (count, -1, *x.shape[1:])) for x in batch]

        def add(number, sums):
            part = [x[number] for x in parts]
            gradients = self._part(*part[:2], part[2] if part[2:] else None, whole)
            return number + 1, [x + y for x, y in zip(sums, gradients, strict=True)]

        zeros = [tf.zeros_like(variable) for variable in self.trainable_weights]
        return tf.while_loop(lambda number, _: number < count, add, (0, zeros))[1]

    def _part(self, images, labels, weights, whole):
        with tf.GradientTape() as tape:
            loss = self.forward(images, labels, weights)
            loss = self.optimizer.scale_loss(loss * images_in(images, weights) / whole)
        return tape.gradient(loss, self.trainable_weights)

    def _make_function(self, step):
        """Keras' own, but for several processes: there it would average what the replicas give
        over an axis that a number has not. The first replica of a process speaks for it here; an
        epoch's metrics are read elsewhere, from all of them."""
        strategy = self.distribute_strategy
        if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return super()._make_function(step)

        def run(data):
            results = strategy.run(step, (data,))
            local = strategy.experimental_local_results
            return keras.tree.map_structure(lambda value: local(value)[0], results)

        compiled = run if self.run_eagerly else tf.function(run, reduce_retracing=True)
        return lambda iterator: compiled(next(iterator))

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Keras looks at a batch whether or not anything is left to build, and at the mean of the
        replicas' parts, which may be of different sizes: at the first one's, here."""
        if self._compile_metrics is None or self._compile_metrics.built:
            return
        if iterator is not None and self._distribute_strategy is not None:
            _, _, batches = next(iter(iterator))
            local = self.distribute_strategy.experimental_local_results
            data_batch = keras.tree.map_structure(lambda x: local(x)[0], next(batches))
        super()._maybe_symbolic_build(data_batch=data_batch)
