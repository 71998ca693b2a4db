"""Label smoothing, mixup and CutMix, one choice and one lambda per group of images (timm
``mixup.py``, whose group is what one GPU holds)."""

import cv2
import numpy as np

SWITCH = 0.5  # probability of CutMix where both are on


def smooth(labels, num_classes, smoothing=0.0):
    """int (batch,) to float32 (batch, num_classes): smoothing / num_classes for every class, and
    1 - smoothing on top for the right one."""
    off = np.float32(smoothing / num_classes)
    return np.eye(num_classes, dtype=np.float32)[labels] * np.float32(1 - smoothing) + off


def mix(images, labels, mixup, cutmix, rng, group=None):
    """Mixes each group of a batch with itself reversed.

    Args:
        images: float32 (batch, height, width, 3). They are overwritten: a copy of a batch costs as
            much as the mixing.
        labels: float32 (batch, num_classes), smoothed already.
        mixup, cutmix: alphas of the beta distributions lambda comes from; 0 for none.
        rng: a numpy generator; the groups draw from it in turn.
        group: images that are mixed with each other and share choice and lambda, a divisor of the
            batch; None is the whole batch.

    Returns:
        The same images, and labels of the same shape. CutMix's labels go by the share of the box
        that lies inside the image.
    """
    if not mixup and not cutmix:
        return images, labels
    mixed = np.empty_like(labels)
    for start in range(0, len(images), group or len(images)):
        part = slice(start, start + (group or len(images)))
        cut = bool(cutmix) and (not mixup or rng.random() < SWITCH)
        share = rng.beta(*(2 * [cutmix if cut else mixup]))
        if cut:
            share = _cut(images[part], share, rng)
        else:
            _blend(images[part], share)
        share = np.float32(share)
        mixed[part] = labels[part] * share + labels[part][::-1] * (1 - share)
    return images, mixed


def _blend(images, share):
    """Mixup, in place, pair by pair: a pair stays in the processor's cache."""
    for i in range((len(images) + 1) // 2):
        one, other = images[i], images[-1 - i]
        mixed = cv2.addWeighted(one, share, other, 1 - share, 0)
        images[-1 - i] = cv2.addWeighted(other, share, one, 1 - share, 0)
        images[i] = mixed


def _cut(images, share, rng):
    """CutMix, in place; the share that remains of an image."""
    size = np.array(images.shape[1:3])
    box = (size * np.sqrt(1 - share)).astype(int)
    center = rng.integers(0, size)
    # timm 0.3.2, of the published training, left the last row and column of an odd box out.
    (top, left), (bottom, right) = (
        np.maximum(center - box // 2, 0),
        np.minimum(center + (box + 1) // 2, size),
    )
    boxes = images[:, top:bottom, left:right]
    boxes[:] = boxes[::-1].copy()
    return 1 - (bottom - top) * (right - left) / np.prod(size)
