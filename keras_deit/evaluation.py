"""Scores of a model's heads."""

import numpy as np
from keras import ops

HEADS = ("class", "distillation")


def evaluate(model, batches):
    """Top-1 accuracy of each head.

    Args:
        model: a ``DeiT``, or any Keras classifier, which has a class head alone.
        batches: pairs of images and one-hot labels, as ``data.evaluation`` gives them.

    Returns:
        A dict of fractions, "class", "distillation" (None where the model has no such head) and
        "fused", the mean of the heads' logits.
    """
    labels, logits = [], []
    for images, truth in batches:
        labels.append(np.argmax(truth, axis=-1))
        logits.append(_logits(model, images))
    labels = np.concatenate(labels)
    heads = [np.concatenate(head) for head in zip(*logits, strict=True)]
    scores = dict.fromkeys((*HEADS, "fused"))
    scores.update(zip(HEADS, [_top1(head, labels) for head in heads], strict=False))
    scores["fused"] = _top1(sum(heads) / len(heads), labels)
    return scores


def _logits(model, images):
    heads = model.logits(images) if hasattr(model, "logits") else [model(images, training=False)]
    return [ops.convert_to_numpy(head) for head in heads]


def _top1(logits, labels):
    return float(np.mean(np.argmax(logits, axis=-1) == labels))
