"""The soft and hard losses, and means over batches that are divided."""

import keras
from keras import ops

WEIGHTED_MEAN = "mean_with_sample_weight"  # Keras' name; zero-weight images do not count


class HardLoss(keras.losses.Loss):
    """Cross-entropy of logits with the class of the largest target, both (batch, num_classes)."""

    def __init__(self):
        super().__init__(reduction=WEIGHTED_MEAN)

    def call(self, target, logits):
        decision = ops.argmax(target, axis=-1)
        return ops.sparse_categorical_crossentropy(decision, logits, from_logits=True)


class SoftLoss(keras.losses.Loss):
    """Kullback-Leibler divergence of logits from target logits, both (batch, num_classes)."""

    def __init__(self, tau, reduction):
        super().__init__(reduction=WEIGHTED_MEAN)
        self.tau = tau
        self.per_class = reduction == "elements"

    def call(self, target, logits):
        teacher = ops.log_softmax(target / self.tau)
        student = ops.log_softmax(logits / self.tau)
        divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1) * self.tau**2
        return divergence / logits.shape[-1] if self.per_class else divergence


def has_targets(labels):
    """Whether a batch's labels are a dict of "labels" and a teacher's "targets"."""
    return isinstance(labels, dict) and set(labels) == {"labels", "targets"}


def class_labels(labels):
    """A batch's labels, without the targets that may be beside them."""
    return labels["labels"] if has_targets(labels) else labels


def image_count(batch, weights=None):
    """The number of images in a batch, float32: the sum of their weights, if they have any."""
    count = ops.shape(batch)[0] if weights is None else ops.sum(weights)
    return ops.cast(count, "float32")


def contribution(loss, images, weights, batch_images):
    """What a micro-batch adds to the mean loss over its batch.

    Args:
        loss: the micro-batch's mean loss, a scalar.
        images: the micro-batch's images, (images, height, width, 3).
        weights: their sample weights (images,), or None.
        batch_images: the batch's ``image_count``, a scalar.

    Returns:
        A scalar tensor; 0 if the weights of the micro-batch, or of the batch, sum to zero.
    """
    return ops.divide_no_nan(loss * image_count(images, weights), batch_images)
