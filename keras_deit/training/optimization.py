"""Learning rate, optimizer and loss of the recipe (paper, Table 9)."""

import math
import re

import keras
from keras import ops

from keras_deit.training.optimizers import SGD, AdamW, Lamb


@keras.saving.register_keras_serializable("keras_deit")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then a cosine whose position counts the warm-up's steps too (timm 0.3.2).

    Args:
        peak: learning rate the warm-up climbs to.
        steps: length of the training; afterwards the rate stays at ``minimum``.
        warmup_steps: length of the warm-up, from ``start``.
        start: learning rate of step 0.
        minimum: learning rate at the end.
        every: None changes the rate with each step; a number, after so many steps and one such
            span late, as the published code does with its epochs: the first two have ``start``.
    """

    def __init__(self, peak, steps, warmup_steps=0, start=1e-6, minimum=1e-5, every=None):
        super().__init__()
        self.peak, self.steps, self.warmup_steps = peak, steps, warmup_steps
        self.start, self.minimum, self.every = start, minimum, every

    def __call__(self, step):
        step = ops.cast(step, "float32")
        if self.every:
            step = self.every * ops.maximum(ops.floor((step + 0.5) / self.every) - 1, 0.0)
        climb = self.start + (self.peak - self.start) * step / float(max(self.warmup_steps, 1))
        position = ops.minimum(step / self.steps, 1.0)
        fall = 0.5 * (self.peak - self.minimum) * (1 + ops.cos(math.pi * position))
        return ops.where(step < self.warmup_steps, climb, self.minimum + fall)

    def get_config(self):
        return {
            "peak": self.peak,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
            "start": self.start,
            "minimum": self.minimum,
            "every": self.every,
        }


def learning_rate(recipe):
    """The peak learning rate: the recipe's, which is for 512 images, scaled to its global batch."""
    return recipe.lr * recipe.batch_size / 512


def optimizer(recipe, steps_per_epoch):
    """The recipe's optimizer on its schedule, with no weight decay on the variables it excludes, a
    clipped global norm and a moving average of the weights (``averages``) where it asks for them.

    AdamW and SGD are PyTorch's, of the published code; LAMB is Keras'.
    """
    schedule = WarmupCosine(
        learning_rate(recipe),
        recipe.epochs * steps_per_epoch,
        round(recipe.warmup_epochs * steps_per_epoch),
        recipe.warmup_lr,
        recipe.min_lr,
        steps_per_epoch if recipe.schedule == "epoch" else None,
    )
    options = {"global_clipnorm": recipe.clip_norm or None}
    if recipe.ema:
        options |= {"use_ema": True, "ema_momentum": recipe.ema}
    if recipe.optimizer == "sgd":
        made = SGD(schedule, recipe.momentum, recipe.weight_decay, **options)
    else:
        kind, epsilon = (AdamW, 1e-8) if recipe.optimizer == "adamw" else (Lamb, 1e-6)
        made = kind(schedule, weight_decay=recipe.weight_decay, epsilon=epsilon, **options)
    # Keras asks with its own variable, "gamma", or with TensorFlow's, "deit/norm/gamma:0".
    names = [rf"(^|/){re.escape(name)}(:\d+)?$" for name in recipe.no_decay]
    made.exclude_from_weight_decay(var_names=names)
    return made


def loss(recipe):
    """Cross-entropy of logits with float labels (batch, num_classes), which already carry the
    recipe's label smoothing and mixing in training: the mean, and with sample weights the weighted
    mean, so that an image of weight 0 is not there."""
    del recipe
    return keras.losses.CategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
