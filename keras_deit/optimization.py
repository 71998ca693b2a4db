"""Learning rate, optimizer and loss of the recipe (paper, Table 9)."""

import math
import re

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_deit")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then a cosine whose position counts the warm-up's steps too (timm 0.3.2).

    Args:
        peak: learning rate the warm-up climbs to.
        steps: length of the training; afterwards the rate stays at ``minimum``.
        warmup_steps: length of the warm-up, from ``start``.
        start: learning rate of step 0.
        minimum: learning rate at the end.
    """

    def __init__(self, peak, steps, warmup_steps=0, start=1e-6, minimum=1e-5):
        super().__init__()
        self.peak, self.steps, self.warmup_steps = peak, steps, warmup_steps
        self.start, self.minimum = start, minimum

    def __call__(self, step):
        step = ops.cast(step, "float32")
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
        }


def learning_rate(recipe):
    """The peak learning rate: the recipe's, which is for 512 images, scaled to its global batch."""
    return recipe.lr * recipe.batch_size / 512


def optimizer(recipe, steps_per_epoch):
    """AdamW on the recipe's schedule, with no weight decay on the variables it excludes."""
    schedule = WarmupCosine(
        learning_rate(recipe),
        recipe.epochs * steps_per_epoch,
        round(recipe.warmup_epochs * steps_per_epoch),
        recipe.warmup_lr,
        recipe.min_lr,
    )
    adamw = keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay, epsilon=1e-8)
    # Keras asks with its own variable, "gamma", or with TensorFlow's, "deit/norm/gamma:0".
    names = [rf"(^|/){re.escape(name)}(:\d+)?$" for name in recipe.no_decay]
    adamw.exclude_from_weight_decay(var_names=names)
    return adamw


def loss(recipe):
    """Cross-entropy of logits with float labels (batch, num_classes), which already carry the
    recipe's label smoothing and mixing in training."""
    del recipe
    return keras.losses.CategoricalCrossentropy(from_logits=True)
