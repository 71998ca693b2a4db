"""A training step on JAX, on one device or, under Keras' ``DataParallel``, on many."""

import contextlib

import jax
import keras
from jax import numpy as jnp

from keras_deit.distillation.losses import images_in


class JaxSteps:
    """Stands before ``keras.Model`` in a class; see ``Steps``. The steps are functions of the
    state, which is lists of arrays, as Keras wants them."""

    home = contextlib.nullcontext

    @property
    def non_trainable_variables(self):
        """With the teacher's among them: what a compiled step is given and not built of."""
        own = super().non_trainable_variables
        return own + self.distillation.variables if self.distillation else own

    def train_step(self, state, data):
        """One update with the gradients of the whole batch's mean loss."""
        trainable, others, optimizer, metrics = state
        batch = keras.utils.unpack_x_y_sample_weight(data)
        self.weigh(batch[2], self.accumulate)
        whole = images_in(batch[0], batch[2])

        def part_of_loss(trainable, others, metrics, batch):
            with self._given(trainable, others, metrics, optimizer) as scope:
                loss = self.forward(*batch) * images_in(batch[0], batch[2]) / whole
                loss = self.optimizer.scale_loss(loss)
            return loss, (
                _in(scope, self.non_trainable_variables),
                _in(scope, self.metrics_variables),
            )

        gradients_of = jax.grad(part_of_loss, has_aux=True)
        if self.accumulate == 1:
            gradients, (others, metrics) = gradients_of(trainable, others, metrics, batch)
        else:

            def add(carry, part):
                sums, others, metrics = carry
                gradients, (others, metrics) = gradients_of(trainable, others, metrics, part)
                return (
                    [x + y for x, y in zip(sums, gradients, strict=True)],
                    others,
                    metrics,
                ), None

            zeros = [jnp.zeros_like(array) for array in trainable]
            parts = jax.tree.map(self._parts, batch)
            carry, _ = jax.lax.scan(add, (zeros, others, metrics), parts)
            gradients, others, metrics = carry
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        with self._given(metrics=metrics):
            logs = self.results(training=True)
        return logs, (trainable, others, optimizer, metrics)

    def test_step(self, state, data):
        with self._given(*state) as scope:
            self.forward(*keras.utils.unpack_x_y_sample_weight(data), training=False)
            logs = self.results(training=False)
        return logs, (*state[:2], _in(scope, self.metrics_variables))

    def _parts(self, array):
        """(batch, ...) to (accumulate, batch // accumulate, ...): each part has its share of what
        every device holds."""
        rows = array.reshape(-1, self.accumulate, *array.shape[1:])
        return jnp.swapaxes(rows, 0, 1)

    def _given(self, trainable=(), others=(), metrics=(), optimizer=()):
        """A scope in which the variables have these values."""
        pairs = []
        for variables, values in (
            (self.trainable_variables, trainable),
            (self.non_trainable_variables, others),
            (self.metrics_variables, metrics),
            (self.optimizer.variables if self.optimizer else (), optimizer),
        ):
            pairs += zip(variables, values, strict=True) if values else ()
        return keras.StatelessScope(state_mapping=pairs)


def _in(scope, variables):
    return [scope.get_current_value(variable) for variable in variables]
