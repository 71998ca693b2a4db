"""A training step on TensorFlow, under any strategy of ``tf.distribute``."""

import keras
import tensorflow as tf

from keras_deit.distillation.losses import image_count
from keras_deit.distribution import replicas
from keras_deit.utils.errors import UserError
from keras_deit.utils.tensorflow_private import TensorFlowTrainerHooks
from keras_deit.utils.validation import with_static_shape


class TensorFlowTrainer(TensorFlowTrainerHooks):
    """The part of ``DistillationTrainer`` that is TensorFlow's.

    Attributes:
        compiles_replicas: whether XLA compiles what each of several replicas does with its images.
    """

    compiles_replicas = False

    def strategy_scope(self):
        """The scope of the strategy that the model was made under."""
        return self.distribute_strategy.scope()

    def compile(self, *args, jit_compile="auto", **kwargs):
        # XLA cannot compile the exchange between replicas, but what comes before it.
        several = replicas.count() > 1
        super().compile(*args, jit_compile=False if several else jit_compile, **kwargs)

        self.compiles_replicas = several and jit_compile is True and not self.run_eagerly
        self._differentiate = self._gradients
        if self.compiles_replicas:
            self._differentiate = tf.function(self._gradients, jit_compile=True)

    def train_step(self, data):
        """One update with the gradients of the whole batch's mean loss."""
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        images = with_static_shape(images, labels, self.image_size)
        self.check_weights(weights, replicas.count() * self.accumulate)

        batch_images = replicas.total(image_count(images, weights))
        gradients = self._differentiate(images, labels, weights, batch_images)

        self.optimizer.apply(gradients, self.trainable_weights)
        return self.metric_results(training=True)

    def test_step(self, data):
        """Adds a batch to the metrics."""
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        images = with_static_shape(images, labels, self.image_size)
        self.check_weights(weights, replicas.count())

        self.forward_loss(images, labels, weights, training=False)
        return self.metric_results(training=False)

    def _gradients(self, images, labels, weights, batch_images):
        """The gradients of this replica's contribution to the mean loss over ``batch_images``
        images: micro-batches and replicas only have to add theirs."""
        if self.accumulate == 1:
            return self._micro_batch_gradients(images, labels, weights, batch_images)

        batch = [x for x in (images, labels, weights) if x is not None]
        micro_batches = [self._micro_batches(x) for x in batch]

        def add(index, sums):
            images, labels, *weights = [x[index] for x in micro_batches]
            gradients = self._micro_batch_gradients(
                images, labels, weights[0] if weights else None, batch_images
            )
            return index + 1, [x + y for x, y in zip(sums, gradients, strict=True)]

        zeros = [tf.zeros_like(variable) for variable in self.trainable_weights]
        return tf.while_loop(lambda index, _: index < self.accumulate, add, (0, zeros))[1]

    def _micro_batches(self, x):
        """(batch, ...) to (accumulate, batch // accumulate, ...)."""
        problem = f"a batch does not divide into {self.accumulate} micro-batches"
        if (x.shape[0] or 0) % self.accumulate:
            raise UserError(f"{problem}: expected a multiple, or another accumulate")

        # The size may be known at run time alone.
        divides = tf.debugging.assert_equal(tf.shape(x)[0] % self.accumulate, 0, problem)
        with tf.control_dependencies([divides]):
            x = tf.identity(x)
        return tf.reshape(x, (self.accumulate, -1, *x.shape[1:]))

    def _micro_batch_gradients(self, images, labels, weights, batch_images):
        with tf.GradientTape() as tape:
            loss = self.forward_loss(images, labels, weights)
            loss = self.optimizer.scale_loss(loss * image_count(images, weights) / batch_images)
        return tape.gradient(loss, self.trainable_weights)
