"""Accuracy and cross-entropy of each head of a model."""

from dataclasses import dataclass
from typing import NamedTuple

import keras
import numpy as np

from keras_deit.configs.class_names import class_order
from keras_deit.data.pipeline import user_errors
from keras_deit.distribution import processes
from keras_deit.evaluation.batches import labeled_batches
from keras_deit.evaluation.inference import predictor
from keras_deit.utils import tables
from keras_deit.utils.errors import UserError
from keras_deit.utils.progress import progress_bar
from keras_deit.utils.validation import rows_are_probabilities

HEADS = ("class", "distillation")
SMALLEST = 1e-30  # probability, so that its logarithm is finite


@dataclass(frozen=True)
class Scores:
    """Scores of one head. Each mean is weighted by the sample weights, if there are any.

    Attributes:
        top1: float. Fraction of images whose highest output is a right class.
        top5: float. Fraction of images with a right class among the five highest outputs.
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

    weight: np.ndarray  # float64, the sample weight, 1 if there is none
    right_classes: np.ndarray  # int, number of right classes: usually 1, 0 if unlabeled
    label: np.ndarray  # int, the first right class
    top1_correct: np.ndarray  # bool, whether the highest output is a right class
    top5_correct: np.ndarray  # bool, whether one of the five highest outputs is
    is_probabilities: np.ndarray  # bool, whether the outputs are nonnegative and sum to 1
    loss_of_logits: np.ndarray  # float64, in nats, if the outputs are logits
    loss_of_probabilities: np.ndarray  # float64, in nats, if they are probabilities


def evaluate(model, batches, verbose=0, before_batch=None):
    """Scores each head of a model over every image.

    An image with several right classes (ImageNet-ReaL) is correct if one of them is predicted. An
    image without a right class, or of weight 0, is ignored. If several processes evaluate together,
    all of them get the scores over the images of all.

    If the model and the batches have class names, these are compared: labels of the same classes in
    another order are mapped to the model's. ImageNet's may be synsets or words.

    The outputs of a model are taken as probabilities if each row of them is nonnegative and sums to
    1, as after a softmax, and else as logits, of which log-probabilities are a special case.

    Args:
        model: an ``ImageClassifier``, any other Keras classifier, which then has only a class head,
            or the ``predictor`` of either.
        batches: images and labels, or images, labels and sample weights: a pair or triple of
            arrays, or a ``tf.data.Dataset``, ``PyDataset`` or other iterable of batches of them.
            Labels are (batch, num_classes), 1 for a right class and else 0, as in
            ``data.evaluation`` and ``data.images``, or integers (batch,) from 0, one per image.
            Weights are (batch,).
        verbose: int. 1 shows the progress: a bar on a terminal, else lines. Default 0.
        before_batch: a function without arguments, called before each batch; default None.

    Returns:
        A dict of ``Scores``: "class", "distillation" (None if the model has no such head) and
        "fused", the mean of the heads' logits.

    Raises:
        UserError: no image has a label and a weight; the arrays are not images with labels of the
            model's classes; the batches have classes of other names, or another number; or
            ``batches`` hold a fraction of the images, and it is unknown which processes have the
            others.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> model = kd.DeiT(16, patch_size=8, width=12, depth=1, heads=3, num_classes=5)
        >>> images = np.zeros((2, 16, 16, 3), "float32")
        >>> scores = kd.evaluate(model, (images, np.array([0, 1])))
        >>> list(scores)
        ['class', 'distillation', 'fused']
        >>> scores["fused"].top5
        1.0
    """
    info = getattr(batches, "info", None)
    _check_processes(info)
    predict = predictor_for(model, info)
    bar = progress_bar(info.steps if info else None, "batch", verbose=verbose)

    results = []
    with user_errors(batches):
        for images, labels, weights in labeled_batches(batches):
            if before_batch:
                before_batch()
            # Processes have the same number of batches, so the last ones may be empty.
            if len(images):
                results.append(_image_results(predict(images), labels, weights))
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


def predictor_for(model, info):
    """The function from images to outputs, in the order of the batches' classes."""
    if not isinstance(model, keras.Model):
        return model

    predict = predictor(model)
    if info is None:
        return predict

    order = class_order(getattr(model, "class_names", None), info.class_names)
    count = getattr(model, "num_classes", info.num_classes)
    if count != info.num_classes:
        raise UserError(
            f"the model has {count} classes and the data {info.num_classes}: expected the same"
        )
    if order is None:
        return predict
    return lambda images: [outputs[:, order] for outputs in predict(images)]


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


def _image_results(heads, labels, weights):
    """The ``ImageResults`` of a batch.

    Args:
        heads: list of float32 (images, num_classes), the outputs of each head.
        labels: (images, num_classes), 1 for a right class and else 0; or integers (images,).
        weights: (images,), or None.
    """
    labels = _right_classes(labels, heads[0].shape)
    if len(heads) > 1:
        heads = [*heads, sum(heads) / len(heads)]
    columns = {name: [] for name in ImageResults._fields[3:]}

    for outputs in heads:
        outputs = outputs.astype(np.float64)
        # Equal outputs are ranked by class number, as argmax does.
        top5 = np.argsort(-outputs, axis=-1, kind="stable")[:, :5]
        correct = np.take_along_axis(labels, top5, axis=-1) > 0
        columns["top1_correct"].append(correct[:, 0])
        columns["top5_correct"].append(correct.any(axis=-1))

        # Which of the two losses is right depends on all batches.
        columns["is_probabilities"].append(rows_are_probabilities(outputs))
        columns["loss_of_logits"].append(_cross_entropy(outputs, labels))
        logarithms = np.log(np.maximum(outputs, SMALLEST))
        columns["loss_of_probabilities"].append(_cross_entropy(logarithms, labels))

    return ImageResults(
        weight=np.ones(len(labels)) if weights is None else weights.astype(np.float64),
        right_classes=(labels > 0).sum(axis=-1),
        label=labels.argmax(axis=-1),
        **{name: np.stack(column, axis=-1) for name, column in columns.items()},
    )


def _right_classes(labels, shape):
    """Labels of either form as (images, num_classes), 1 for a right class and else 0."""
    images, num_classes = shape
    if labels.shape == (images, num_classes):
        return labels

    numbers = labels.reshape(-1)
    is_per_image = labels.shape in ((images,), (images, 1)) and labels.dtype.kind in "iuf"
    if not is_per_image or (numbers % 1).any():
        raise UserError(
            f"labels {labels.shape} of {images} images: expected ({images}, {num_classes}), as the"
            f" model has {num_classes} classes, or the numbers of the classes, ({images},)"
        )
    wrong = numbers[(numbers < 0) | (numbers >= num_classes)]
    if len(wrong):
        raise UserError(
            f"label {wrong[0]:g}: expected 0 to {num_classes - 1}, the model's classes; an image"
            " without a class has a weight of 0"
        )
    return np.eye(num_classes)[numbers.astype(int)]


def _cross_entropy(logits, labels):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -(log_softmax * labels).sum(axis=-1)


def _scores(results):
    """A list of ``Scores``, one for each column of the results."""
    # Images without a right class are ignored: those that cannot be read, and those of
    # ImageNet-ReaL whose annotators found none of the 1000 classes.
    counted = (results.right_classes > 0) & (results.weight > 0)
    if not counted.any():
        raise UserError(
            f"none of {len(counted)} images has a label and a weight above 0: expected at least one"
        )
    results = ImageResults(*(array[counted] for array in results))

    def mean(values, rows=slice(None)):
        return np.average(values[rows], axis=0, weights=results.weight[rows])

    top1 = mean(results.top1_correct).tolist()
    top5 = mean(results.top5_correct).tolist()
    # With several right classes there is no one class to average over, and no one-hot target.
    if (results.right_classes > 1).any():
        return [Scores(*pair, per_class=None, loss=None) for pair in zip(top1, top5, strict=True)]

    classes = np.unique(results.label)
    of_classes = [mean(results.top1_correct, results.label == number) for number in classes]
    per_class = np.mean(of_classes, axis=0).tolist()

    # Logits of all images that happen to be probabilities do not occur.
    is_probabilities = results.is_probabilities.all(axis=0)
    losses = np.where(is_probabilities, results.loss_of_probabilities, results.loss_of_logits)
    loss = mean(losses).tolist()
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
