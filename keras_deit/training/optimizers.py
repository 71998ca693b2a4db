"""Keras' optimizers with PyTorch's update rules, which the published numbers were trained with."""

import keras
from keras import ops


class _Exact:
    """A moving average of the weights as timm's ``ModelEma`` keeps it: it begins at the initial
    weights, and the weights themselves are never overwritten by it, as Keras would in the end.
    And gradients that are clipped after they were summed over replicas; Keras clips each one's."""

    def _backend_apply_gradients(self, grads, trainable_variables):
        add = getattr(super(), "_all_reduce_sum_gradients", None)  # of Keras on TensorFlow
        if add is not None:
            grads = [grad for grad, _ in add(list(zip(grads, trainable_variables, strict=True)))]
        super()._backend_apply_gradients(grads, trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars

    def build(self, variables):
        built = self.built
        super().build(variables)
        if self.use_ema and not built:
            for average, variable in zip(self.averages, variables, strict=True):
                average.assign(ops.copy(variable))  # JAX would share its memory

    @property
    def averages(self):
        """A variable for each of the model's trainable ones; none without ``use_ema``."""
        return self._model_variables_moving_average if self.use_ema else []

    def _update_model_variables_moving_average(self, trainable_variables):
        for average, variable in zip(self.averages, trainable_variables, strict=True):
            average.assign(self.ema_momentum * average + (1 - self.ema_momentum) * variable)

    def finalize_variable_values(self, var_list):
        pass


class AdamW(_Exact, keras.optimizers.AdamW):
    """PyTorch's AdamW: epsilon is added to the corrected root (Keras adds it before)."""

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        first, second = self._momentums[index], self._velocities[index]
        step = ops.cast(self.iterations + 1, "float32")
        self.assign(first, self.beta_1 * first + (1 - self.beta_1) * gradient)
        self.assign(second, self.beta_2 * second + (1 - self.beta_2) * ops.square(gradient))
        mean = first / (1 - ops.power(self.beta_1, step))
        root = ops.sqrt(second / (1 - ops.power(self.beta_2, step)))
        self.assign_sub(variable, learning_rate * mean / (root + self.epsilon))


class SGD(_Exact, keras.optimizers.SGD):
    """PyTorch's SGD with Nesterov momentum: weight decay is part of the gradient, and the learning
    rate no part of the velocity."""

    def __init__(self, learning_rate, momentum, decay, **options):
        super().__init__(learning_rate, momentum=momentum, nesterov=True, **options)
        self.decay = decay

    def update_step(self, gradient, variable, learning_rate):
        if self.decay and self._use_weight_decay(variable):
            gradient = gradient + self.decay * variable
        if not self.momentum:
            self.assign_sub(variable, learning_rate * gradient)
            return
        velocity = self.momentums[self._get_variable_index(variable)]
        self.assign(velocity, self.momentum * velocity + gradient)
        self.assign_sub(variable, learning_rate * (gradient + self.momentum * velocity))


class Lamb(_Exact, keras.optimizers.Lamb):
    """Keras' own."""
