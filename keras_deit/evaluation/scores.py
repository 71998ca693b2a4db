"""Scores of a model's heads."""

from dataclasses import dataclass

import keras
import numpy as np

from keras_deit.data.pipeline import user_errors
from keras_deit.distribution import processes
from keras_deit.evaluation.inference import predictor

HEADS = ("class", "distillation")


@dataclass(frozen=True)
class Scores:
    """Of one head: shares of images, the mean over classes of top-1, and the mean cross-entropy;
    the latter two None where an image may have several right classes."""

    top1: float
    top5: float
    per_class: float | None
    loss: float | None


def evaluate(model, batches, verbose=0, each=lambda: None):
    """Accuracies and loss of each head over every image.

    Where an image has several right classes (ImageNet-ReaL), one of them is enough, and an image
    that has none does not count.

    Args:
        model: a ``DeiT``, or any Keras classifier, which has a class head alone; or its
            ``predictor``.
        batches: pairs of images and labels, 1 for a right class and else 0, as ``data.evaluation``
            and ``data.images`` give them.
        verbose: 1 shows a progress bar.
        each: called before each batch.

    Returns:
        A dict of ``Scores``: "class", "distillation" (None where the model has no such head) and
        "fused", the mean of the heads' logits.
    """
    bar = keras.utils.Progbar(getattr(batches, "steps", None), verbose=verbose)
    predict = predictor(model) if isinstance(model, keras.Model) else model
    rows = []
    with user_errors(batches):
        for images, truth in batches:
            each()
            if len(images):
                truth = np.asarray(truth)
                heads = predict(images)
                heads = heads if len(heads) == 1 else [*heads, sum(heads) / len(heads)]
                rows.append(np.stack([_rows(head, truth) for head in heads], axis=1))
            bar.add(1)
    rows = np.concatenate(rows) if rows else np.zeros((0, 1, 5))
    if hasattr(batches, "info") and batches.info.process_count > 1:
        rows = processes.concatenate(rows)
    found = [_scores(head) for head in rows.swapaxes(0, 1)]
    scores = dict.fromkeys((*HEADS, "fused"))
    return scores | dict(zip(HEADS, found[:2], strict=False)) | {"fused": found[-1]}


def table(scores):
    """``evaluate``'s scores as Markdown, in percent."""
    lines = ["| head | top-1 | top-5 | per class | loss |", "| --- | ---: | ---: | ---: | ---: |"]
    for head, of in scores.items():
        if of is not None:
            loss = "-" if of.loss is None else f"{of.loss:.4f}"
            mean = "-" if of.per_class is None else f"{of.per_class:.3%}"
            lines.append(f"| {head} | {of.top1:.3%} | {of.top5:.3%} | {mean} | {loss} |")
    return "\n".join(lines)


def _rows(logits, labels):
    """For each image, (images, 5): how many right classes it has, whether the best guess is one,
    whether one of the best five is, the cross-entropy with all of them, and the first of them."""
    logits = logits.astype(np.float64)
    best = np.argsort(-logits, axis=-1, kind="stable")[:, :5]
    right = np.take_along_axis(labels, best, axis=-1) > 0
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    counts, loss, first = labels.sum(axis=-1), -(log * labels).sum(axis=-1), labels.argmax(axis=-1)
    return np.stack([counts, right[:, 0], right.any(axis=-1), loss, first], axis=-1)


def _scores(rows):
    rows = rows[rows[:, 0] > 0]
    top1, top5, loss, _ = map(float, rows[:, 1:].mean(axis=0))
    if (rows[:, 0] > 1).any():
        return Scores(top1, top5, None, None)
    of_class = [rows[rows[:, 4] == number, 1].mean() for number in np.unique(rows[:, 4])]
    return Scores(top1, top5, float(np.mean(of_class)), loss)
