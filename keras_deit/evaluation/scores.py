"""Accuracy and cross-entropy of each head of a model."""

from dataclasses import dataclass
from typing import NamedTuple

import keras
import numpy as np

from keras_deit.data.pipeline import user_errors
from keras_deit.distribution import processes
from keras_deit.evaluation.inference import predictor
from keras_deit.utils import tables
from keras_deit.utils.errors import UserError

HEADS = ("class", "distillation")


@dataclass(frozen=True)
class Scores:
    """Scores of one head.

    Attributes:
        top1: float. Fraction of images whose highest logit is a right class.
        top5: float. Fraction of images with a right class among the five highest logits.
        per_class: float. Mean over classes of the top-1 accuracy on their images; None if an image
            may have several right classes.
        loss: float. Mean cross-entropy in nats; None if an image may have several right classes.
    """

    top1: float
    top5: float
    per_class: float | None
    loss: float | None


class ImageResults(NamedTuple):
    """Results for each image, as arrays: (images,) for what the labels say, (images, heads) for
    what the heads predict."""

    right_classes: np.ndarray  # int, number of right classes: usually 1, 0 if unlabeled
    label: np.ndarray  # int, the first right class
    top1_correct: np.ndarray  # bool, whether the highest logit is a right class
    top5_correct: np.ndarray  # bool, whether one of the five highest logits is
    cross_entropy: np.ndarray  # float64, in nats


def evaluate(model, batches, verbose=0, before_batch=None):
    """Scores each head of a model over every image.

    An image with several right classes (ImageNet-ReaL) is correct if one of them is predicted. An
    image without a right class is ignored. If several processes evaluate together, all of them get
    the scores over the images of all.

    Args:
        model: a ``DeiT``, any other Keras classifier, which then has a class head alone, or the
            ``predictor`` of either.
        batches: an iterable of images and labels. Labels are (batch, num_classes), 1 for a right
            class and else 0, as in ``data.evaluation`` and ``data.images``.
        verbose: int. 1 shows a progress bar. Default 0.
        before_batch: a function without arguments, called before each batch; default None.

    Returns:
        A dict of ``Scores``: "class", "distillation" (None if the model has no such head) and
        "fused", the mean of the heads' logits.

    Raises:
        UserError: no image has a label, or ``batches`` hold a fraction of the images, and it is
            unknown which processes have the others.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> model = kd.DeiT(16, patch_size=8, width=12, depth=1, heads=3, num_classes=5)
        >>> images = np.zeros((2, 16, 16, 3), "float32")
        >>> labels = np.eye(5, dtype="float32")[[0, 1]]
        >>> scores = kd.evaluate(model, [(images, labels)])
        >>> list(scores)
        ['class', 'distillation', 'fused']
        >>> scores["fused"].top5
        1.0
    """
    info = getattr(batches, "info", None)
    _check_processes(info)
    predict = predictor(model) if isinstance(model, keras.Model) else model
    bar = keras.utils.Progbar(info.steps if info else None, verbose=verbose)

    results = []
    with user_errors(batches):
        for images, labels in batches:
            if before_batch:
                before_batch()
            # Processes have the same number of batches, so the last ones may be empty.
            if len(images):
                results.append(_image_results(predict(images), np.asarray(labels)))
            bar.add(1)

    if not results:
        raise UserError("no images to evaluate: expected at least one")
    results = ImageResults(*map(np.concatenate, zip(*results, strict=True)))
    if info and info.process_count > 1:
        results = ImageResults(*map(processes.concatenate, results))

    *head_scores, fused = _scores(results)
    scores = dict.fromkeys(HEADS)
    # A single head is its own fusion.
    scores.update(zip(HEADS, head_scores or [fused], strict=False))
    return {**scores, "fused": fused}


def _check_processes(info):
    """Raises UserError if the batches may be a fraction of the images."""
    count = processes.count()
    if count > 1 and info is None:
        raise UserError(
            f"evaluate in {count} processes: expected batches of kd.data.evaluation or"
            " kd.data.images, whose .info says which images belong to which process"
        )
    if info and info.process_count not in (1, count):
        raise UserError(
            f"batches for {info.process_count} processes: expected batches for the"
            f" {count} running; give process=(index, count) to kd.data.evaluation"
        )


def _image_results(heads, labels):
    """The ``ImageResults`` of a batch.

    Args:
        heads: list of float32 (images, num_classes), the logits of each head.
        labels: (images, num_classes), 1 for a right class and else 0.
    """
    if len(heads) > 1:
        heads = [*heads, sum(heads) / len(heads)]
    top1_correct, top5_correct, cross_entropy = [], [], []

    for logits in heads:
        logits = logits.astype(np.float64)
        # Equal logits are ranked by class number, as argmax does.
        top5 = np.argsort(-logits, axis=-1, kind="stable")[:, :5]
        correct = np.take_along_axis(labels, top5, axis=-1) > 0
        top1_correct.append(correct[:, 0])
        top5_correct.append(correct.any(axis=-1))

        shifted = logits - logits.max(axis=-1, keepdims=True)
        log_softmax = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        cross_entropy.append(-(log_softmax * labels).sum(axis=-1))

    return ImageResults(
        right_classes=(labels > 0).sum(axis=-1),
        label=labels.argmax(axis=-1),
        top1_correct=np.stack(top1_correct, axis=-1),
        top5_correct=np.stack(top5_correct, axis=-1),
        cross_entropy=np.stack(cross_entropy, axis=-1),
    )


def _scores(results):
    """A list of ``Scores``, one for each column of the results."""
    # Images without a right class are ignored: those that cannot be read, and those of
    # ImageNet-ReaL whose annotators found none of the 1000 classes.
    labeled = results.right_classes > 0
    if not labeled.any():
        raise UserError(f"none of {len(labeled)} images has a label: expected at least one")
    results = ImageResults(*(array[labeled] for array in results))

    top1 = results.top1_correct.mean(axis=0).tolist()
    top5 = results.top5_correct.mean(axis=0).tolist()
    # With several right classes there is no one class to average over, and no one-hot target.
    if (results.right_classes > 1).any():
        return [Scores(*pair, per_class=None, loss=None) for pair in zip(top1, top5, strict=True)]

    classes = np.unique(results.label)
    of_classes = [results.top1_correct[results.label == number].mean(axis=0) for number in classes]
    per_class = np.mean(of_classes, axis=0).tolist()
    loss = results.cross_entropy.mean(axis=0).tolist()
    return [Scores(*row) for row in zip(top1, top5, per_class, loss, strict=True)]


def table(scores):
    """The scores of ``evaluate`` as a Markdown table, accuracies in percent."""
    rows = []
    for head, score in scores.items():
        if score is not None:
            per_class = "-" if score.per_class is None else f"{score.per_class:.3%}"
            loss = "-" if score.loss is None else f"{score.loss:.4f}"
            rows.append([head, f"{score.top1:.3%}", f"{score.top5:.3%}", per_class, loss])
    return tables.markdown(["head", "top-1", "top-5", "per class", "loss"], rows)
