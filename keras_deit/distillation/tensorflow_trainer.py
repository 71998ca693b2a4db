"""A training step on TensorFlow, under any strategy of ``tf.distribute``."""

import keras
import tensorflow as tf

from keras_deit.distillation.losses import contribution, image_count
from keras_deit.distribution import replicas
from keras_deit.utils.errors import UserError
from keras_deit.utils.keras_private import OptimizerHooks
from keras_deit.utils.tensorflow_private import TensorFlowTrainerHooks
from keras_deit.utils.validation import with_static_shape

LARGE = 1_000_000  # parameters
INDIVISIBLE = "rows of a replica that do not divide"  # what a step's assertion says


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
        several = replicas.count() > 1
        # Keras' own "auto" is no XLA wherever there is only a CPU.
        if jit_compile == "auto" and not kwargs.get("run_eagerly"):
            jit_compile = self._is_best_compiled(several)

        # XLA cannot compile the exchange between replicas, but what comes before it.
        super().compile(*args, jit_compile=False if several else jit_compile, **kwargs)

        self.compiles_replicas = several and bool(jit_compile) and not self.run_eagerly
        self._differentiate = self._gradients
        if self.compiles_replicas:
            self._differentiate = tf.function(self._gradients, jit_compile=True)

        # XLA makes one pass over memory of an update. Keras' optimizers may do what it cannot.
        self._update = self._apply
        is_ours = isinstance(self.optimizer, OptimizerHooks) and self.count_params() >= LARGE
        if is_ours and not several and not self.run_eagerly:
            self._update = tf.function(self._apply, jit_compile=True, autograph=False)

    def _is_best_compiled(self, several):
        """Whether XLA is best for what a training step, or each of several replicas, computes.

        On a GPU or TPU it is, but for batch statistics of several replicas, which it cannot
        exchange. On a CPU it lacks oneDNN's matrix products: DeiT-S trains in float32 at 0.9 and in
        bfloat16 at 0.5 of the speed of a graph, whose other operations it compiles anyway
        (``models/operations.py``), and the digits' DeiT at the same speed, after a longer
        compilation. A RegNetY, without matrix products, trains at 1.7 times that speed. Several
        replicas of a CPU are there to try things out.
        """
        if tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"):
            return not several or self.supports_accumulation
        return not several and not self.has_attention

    def train_step(self, data):
        """One update with the gradients of the whole batch's mean loss."""
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        self.check_weights(weights, replicas.count() * self.accumulate)
        checked = self._checked(with_static_shape(images, labels, self.image_size))

        # If images are checked at run time, all else waits for it, and for the other replicas: a
        # batch that is refused changes nothing. XLA runs all of a step or nothing.
        waits = checked is not images and not self.jit_compile
        with tf.control_dependencies([checked] if waits else []):
            batch_images = replicas.total(image_count(checked, weights))
        with tf.control_dependencies([batch_images] if waits else []):
            return self._step(checked, labels, weights, batch_images)

    def _step(self, images, labels, weights, batch_images):
        state = [] if weights is None else self._state()
        gradients = self._differentiate(images, labels, weights, batch_images)

        if weights is None:
            self._update(gradients)
        else:
            context = tf.distribute.get_replica_context()
            context.merge_call(self._apply_or_restore, (batch_images, gradients, state))
        return self.metric_results(training=True)

    def test_step(self, data):
        """Adds a batch to the metrics."""
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        images = with_static_shape(images, labels, self.image_size)
        self.check_weights(weights, replicas.count())

        self.forward_loss(images, labels, weights, training=False)
        return self.metric_results(training=False)

    def _apply(self, gradients):
        self.optimizer.apply(gradients, self.trainable_weights)

    def _state(self):
        """What the forward pass may change: batch statistics and the states of random numbers."""
        return [tf.identity(variable.value) for variable in self.non_trainable_variables]

    def _apply_or_restore(self, strategy, batch_images, gradients, state):
        """Applies the gradients; or, if the weights of the batch sum to zero, restores the
        ``_state`` before it. Such a batch would still decay weights, momentum and averages.

        This is called for all replicas at once: a replica cannot exchange gradients in a branch.
        """
        batch_images = strategy.experimental_local_results(batch_images)[0]

        def apply():
            strategy.extended.call_for_each_replica(self._apply, (gradients,))

        def restore():
            for variable, value in zip(self.non_trainable_variables, state, strict=True):
                strategy.extended.update(
                    variable.value, lambda variable, value: variable.assign(value), (value,)
                )

        tf.cond(batch_images == 0, restore, apply)

    def _gradients(self, images, labels, weights, batch_images):
        """The gradients of this replica's contribution to the mean loss over ``batch_images``
        images: micro-batches and replicas only have to add theirs."""
        if self.accumulate == 1:
            return self._micro_batch_gradients(images, labels, weights, batch_images)

        micro_batches = tf.nest.map_structure(self._micro_batches, (images, labels, weights))

        def add(index, sums):
            micro_batch = tf.nest.map_structure(
                lambda x: None if x is None else x[index], micro_batches
            )
            gradients = self._micro_batch_gradients(*micro_batch, batch_images)
            return index + 1, [x + y for x, y in zip(sums, gradients, strict=True)]

        zeros = [tf.zeros_like(variable) for variable in self.trainable_weights]
        return tf.while_loop(lambda index, _: index < self.accumulate, add, (0, zeros))[1]

    def _checked(self, images):
        """A replica's images, checked to divide into micro-batches and not to be none."""
        divisor = self.accumulate
        if images.shape[0] is not None:
            if images.shape[0] % divisor or not images.shape[0]:
                raise UserError(self.indivisible(images.shape[0]))
            return images

        if divisor * replicas.count() == 1:
            return images

        # The size is known only at run time.
        rows = tf.shape(images)[0]
        valid = tf.logical_and(rows > 0, rows % divisor == 0)
        with tf.control_dependencies([tf.debugging.Assert(valid, [INDIVISIBLE, rows])]):
            return tf.identity(images)

    def make_train_function(self, force=False):
        """Keras' own; a batch that does not divide is a ``UserError``."""
        if self.train_function is not None and not force:
            return self.train_function

        super().make_train_function(force)
        step = self.train_function

        def train_function(iterator):
            try:
                return step(iterator)
            except tf.errors.InvalidArgumentError as error:
                # XLA drops assertions, so that there it is the division that fails.
                divides = self.accumulate > 1 and "reshape" in str(error).lower()
                if not divides and INDIVISIBLE not in str(error):
                    raise
                raise UserError(self.indivisible()) from error

        self.train_function = train_function
        return train_function

    def _micro_batches(self, x):
        """(batch, ...) to (accumulate, batch // accumulate, ...); None stays None."""
        if x is None:
            return None
        return tf.reshape(x, (self.accumulate, -1, *x.shape[1:]))

    def _micro_batch_gradients(self, images, labels, weights, batch_images):
        with tf.GradientTape() as tape:
            loss = self.forward_loss(images, labels, weights)
            loss = contribution(loss, images, weights, batch_images)
            loss = self.optimizer.scale_loss(loss)
        return tape.gradient(loss, self.trainable_weights)
