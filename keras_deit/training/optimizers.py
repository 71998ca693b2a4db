"""PyTorch's optimizers in Keras, with which the published models were trained, and their learning
rate schedule."""

import math

import keras
from keras import ops

from keras_deit.utils.keras_private import OptimizerHooks


@keras.saving.register_keras_serializable("keras_deit")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then a cosine, whose position counts the warm-up's steps too (timm 0.3.2).

    Args:
        peak: float. Learning rate at the end of the warm-up.
        steps: int. Length of the training; afterwards the rate stays at ``minimum``.
        warmup_steps: int. Length of the warm-up. Default 0.
        start: float. Learning rate of step 0. Default 1e-6.
        minimum: float. Learning rate at the end. Default 1e-5.
        every: int or None. None changes the rate with each step. A number of steps changes it once
            in so many, and one such period late, as the published code does with its epochs: the
            first two have ``start``. Default None.

    Example:
        >>> import keras_deit as kd
        >>> schedule = kd.WarmupCosine(peak=1e-3, steps=100, warmup_steps=10, start=0.0)
        >>> [round(float(schedule(step)), 6) for step in (0, 5, 100)]
        [0.0, 0.0005, 1e-05]
    """

    def __init__(self, peak, steps, warmup_steps=0, start=1e-6, minimum=1e-5, every=None):
        super().__init__()
        self.peak = peak
        self.steps = steps
        self.warmup_steps = warmup_steps
        self.start = start
        self.minimum = minimum
        self.every = every

    def __call__(self, step):
        step = ops.cast(step, "float32")
        if self.every:
            step = self.every * ops.maximum(ops.floor((step + 0.5) / self.every) - 1, 0.0)

        warmup = self.start + (self.peak - self.start) * step / float(max(self.warmup_steps, 1))

        progress = ops.minimum(step / self.steps, 1.0)
        cosine = 0.5 * (self.peak - self.minimum) * (1 + ops.cos(math.pi * progress))

        return ops.where(step < self.warmup_steps, warmup, self.minimum + cosine)

    def get_config(self):
        return {
            "peak": self.peak,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
            "start": self.start,
            "minimum": self.minimum,
            "every": self.every,
        }


class _Optimizer(OptimizerHooks):
    """A mixin before a Keras optimizer: its config holds the names without weight decay too."""

    undecayed = ()

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        super().exclude_from_weight_decay(var_list=var_list, var_names=var_names)
        self.undecayed = tuple(var_names or ())

    def get_config(self):
        return {**super().get_config(), "undecayed": list(self.undecayed)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        undecayed = config.pop("undecayed", ())

        optimizer = super().from_config(config, custom_objects)
        if undecayed:
            optimizer.exclude_from_weight_decay(var_names=undecayed)
        return optimizer


@keras.saving.register_keras_serializable("keras_deit")
class AdamW(_Optimizer, keras.optimizers.AdamW):
    """PyTorch's AdamW: epsilon is added after the bias correction; Keras adds it before."""

    def update_step(self, gradient, variable, learning_rate):
        first, second = self.adam_moments(variable)
        self.assign(first, self.beta_1 * first + (1 - self.beta_1) * gradient)
        self.assign(second, self.beta_2 * second + (1 - self.beta_2) * ops.square(gradient))

        step = ops.cast(self.iterations + 1, "float32")
        mean = first / (1 - ops.power(self.beta_1, step))
        root = ops.sqrt(second / (1 - ops.power(self.beta_2, step)))

        self.assign_sub(variable, learning_rate * mean / (root + self.epsilon))


@keras.saving.register_keras_serializable("keras_deit")
class SGD(_Optimizer, keras.optimizers.SGD):
    """PyTorch's SGD with Nesterov momentum: weight decay is added to the gradient, and the learning
    rate does not enter the velocity.

    Args:
        learning_rate: float or schedule.
        momentum: float in [0, 1).
        decay: float. Weight decay.
        **options: as for ``keras.optimizers.SGD``.
    """

    def __init__(self, learning_rate, momentum, decay, **options):
        super().__init__(learning_rate, momentum=momentum, nesterov=True, **options)
        self.decay = decay

    def update_step(self, gradient, variable, learning_rate):
        if self.decay and self.decays(variable):
            gradient = gradient + self.decay * variable

        if not self.momentum:
            self.assign_sub(variable, learning_rate * gradient)
            return

        velocity = self.momentums[self.variable_index(variable)]
        self.assign(velocity, self.momentum * velocity + gradient)
        self.assign_sub(variable, learning_rate * (gradient + self.momentum * velocity))

    def get_config(self):
        config = {**super().get_config(), "decay": self.decay}
        del config["nesterov"]  # no argument: it always is
        return config


@keras.saving.register_keras_serializable("keras_deit")
class Lamb(_Optimizer, keras.optimizers.Lamb):
    """Keras' LAMB, with clipping and moving average as for the others."""
