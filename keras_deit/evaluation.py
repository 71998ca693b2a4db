"""Scores of a model's heads."""

import functools
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_deit.data.batches import plain_failures

HEADS = ("class", "distillation")


@dataclass(frozen=True)
class Scores:
    """Of one head: shares of images, and the mean cross-entropy, None where an image may have
    several right classes."""

    top1: float
    top5: float
    loss: float | None


def evaluate(model, batches, verbose=0, each=lambda: None):
    """Accuracy and loss of each head over every image.

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
    labels, logits = [], []
    with plain_failures(batches):
        for images, truth in batches:
            each()
            labels.append(np.asarray(truth))
            logits.append(predict(images))
            bar.add(1)
    labels = np.concatenate(labels)
    heads = [np.concatenate(head) for head in zip(*logits, strict=True)]
    scores = dict.fromkeys((*HEADS, "fused"))
    scores.update(zip(HEADS, [_scores(head, labels) for head in heads], strict=False))
    scores["fused"] = _scores(sum(heads) / len(heads), labels)
    return scores


def table(scores):
    """``evaluate``'s scores as Markdown, in percent."""
    lines = ["| head | top-1 | top-5 | loss |", "| --- | ---: | ---: | ---: |"]
    for head, of in scores.items():
        if of is not None:
            loss = "-" if of.loss is None else f"{of.loss:.4f}"
            lines.append(f"| {head} | {of.top1:.3%} | {of.top5:.3%} | {loss} |")
    return "\n".join(lines)


def predictor(model):
    """A function from images to a list of arrays, the logits of each head: compiled once, and with
    the weights that the model has when it is called."""

    def heads(images):
        return model.logits(images) if hasattr(model, "logits") else [model(images, training=False)]

    @functools.cache
    def compiled(shape, dtype):
        if keras.backend.backend() != "tensorflow":
            return heads
        import tensorflow as tf

        return tf.function(heads, input_signature=[tf.TensorSpec((None, *shape), dtype)])

    def predict(images):
        images = ops.convert_to_tensor(images)
        outputs = compiled(tuple(images.shape[1:]), images.dtype)(images)
        return [ops.convert_to_numpy(head) for head in outputs]

    return predict


def _scores(logits, labels):
    counted = labels.any(axis=-1)
    logits, labels = logits[counted].astype(np.float64), labels[counted]
    best = np.argsort(-logits, axis=-1, kind="stable")[:, :5]
    right = np.take_along_axis(labels, best, axis=-1) > 0
    loss = None
    if (labels.sum(axis=-1) == 1).all():
        shifted = logits - logits.max(axis=-1, keepdims=True)
        log = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        loss = float(-np.mean((log * labels).sum(axis=-1)))
    return Scores(float(right[:, 0].mean()), float(right.any(axis=-1).mean()), loss)
