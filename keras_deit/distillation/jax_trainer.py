"""A training step on JAX, on one device or, under Keras' ``DataParallel``, on several."""

import contextlib

import jax
import keras
from jax import numpy as jnp

from keras_deit.distillation.losses import contribution, image_count
from keras_deit.utils.errors import UserError


class JaxTrainer:
    """The part of ``DistillationTrainer`` that is JAX's.

    Steps are pure functions of the state, which is four lists of arrays, as Keras wants them: the
    trainable variables, the others, the optimizer's and the metrics'.
    """

    strategy_scope = contextlib.nullcontext
    compiles_replicas = False

    @property
    def non_trainable_variables(self):
        """The model's, and then the teacher's: a compiled step takes the teacher's weights as
        arguments, rather than as constants in its program."""
        own = super().non_trainable_variables
        return own + self.distillation.variables if self.distillation else own

    def train_step(self, state, data):
        """One update with the gradients of the whole batch's mean loss."""
        trainable, non_trainable, optimizer, metrics = state
        batch = keras.utils.unpack_x_y_sample_weight(data)
        images, _, weights = batch
        self.check_weights(weights, self.accumulate)
        if len(images) % self.accumulate:
            raise UserError(self.indivisible(len(images)))

        batch_images = image_count(images, weights)

        def micro_batch_loss(trainable, non_trainable, metrics, micro_batch):
            """The loss of a micro-batch, of which the sum is the batch's mean loss, and the state
            that it leaves."""
            with self._state_scope(trainable, non_trainable, metrics, optimizer) as scope:
                images, _, weights = micro_batch
                loss = self.forward_loss(*micro_batch)
                loss = contribution(loss, images, weights, batch_images)
                loss = self.optimizer.scale_loss(loss)
            left = _values(scope, self.non_trainable_variables)
            return loss, (left, _values(scope, self.metrics_variables))

        differentiate = jax.grad(micro_batch_loss, has_aux=True)

        if self.accumulate == 1:
            gradients, (non_trainable, metrics) = differentiate(
                trainable, non_trainable, metrics, batch
            )
        else:

            def add(carry, micro_batch):
                sums, non_trainable, metrics = carry
                gradients, (non_trainable, metrics) = differentiate(
                    trainable, non_trainable, metrics, micro_batch
                )
                sums = [x + y for x, y in zip(sums, gradients, strict=True)]
                return (sums, non_trainable, metrics), None

            zeros = [jnp.zeros_like(array) for array in trainable]
            micro_batches = jax.tree.map(self._micro_batches, batch)
            carry, _ = jax.lax.scan(add, (zeros, non_trainable, metrics), micro_batches)
            gradients, non_trainable, metrics = carry

        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)

        # A batch whose weights sum to zero would still decay weights, momentum and averages.
        if weights is not None:
            trainable, non_trainable, optimizer = jax.tree.map(
                lambda new, old: jnp.where(batch_images == 0, old, new),
                (trainable, non_trainable, optimizer),
                state[:3],
            )

        with self._state_scope(metrics=metrics):
            logs = self.metric_results(training=True)
        return logs, (trainable, non_trainable, optimizer, metrics)

    def test_step(self, state, data):
        """Adds a batch to the metrics."""
        with self._state_scope(*state) as scope:
            self.forward_loss(*keras.utils.unpack_x_y_sample_weight(data), training=False)
            logs = self.metric_results(training=False)
        return logs, (*state[:2], _values(scope, self.metrics_variables))

    def _micro_batches(self, array):
        """(batch, ...) to (accumulate, batch // accumulate, ...).

        A device holds consecutive rows. Each micro-batch gets an equal number of rows from every
        device, so that none has to be moved.
        """
        rows = array.reshape(-1, self.accumulate, *array.shape[1:])
        return jnp.swapaxes(rows, 0, 1)

    def _state_scope(self, trainable=(), non_trainable=(), metrics=(), optimizer=()):
        """A scope in which the variables have these values; those without values keep theirs."""
        pairs = []
        for variables, values in (
            (self.trainable_variables, trainable),
            (self.non_trainable_variables, non_trainable),
            (self.metrics_variables, metrics),
            (self.optimizer.variables if self.optimizer else (), optimizer),
        ):
            pairs += zip(variables, values, strict=True) if values else ()
        return keras.StatelessScope(state_mapping=pairs)


def _values(scope, variables):
    return [scope.get_current_value(variable) for variable in variables]
