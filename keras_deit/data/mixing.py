"""Label smoothing, mixup and CutMix of a group of images (timm's ``mixup.py``, whose group is what
one GPU holds)."""

import cv2
import numpy as np

SWITCH = 0.5  # probability of CutMix if both are on


def smooth(labels, num_classes, smoothing=0.0):
    """One-hot labels with label smoothing.

    Args:
        labels: int (batch,).
        num_classes: int.
        smoothing: float in [0, 1). Default 0.

    Returns:
        float32 (batch, num_classes): smoothing / num_classes for every class, and 1 - smoothing
        on top for the right one.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.data.mixing import smooth
        >>> smooth([1], num_classes=2, smoothing=0.5).tolist()
        [[0.25, 0.75]]
    """
    targets = np.full((len(labels), num_classes), smoothing / num_classes, np.float32)
    targets[np.arange(len(labels)), labels] += np.float32(1 - smoothing)
    return targets


def mix(images, labels, mixup, cutmix, rng):
    """Mixes a group of images with the same group in reversed order, by mixup or by CutMix.

    The group has one lambda. With both on, each is chosen half of the time.

    Args:
        images: float32 (group, height, width, 3). Overwritten: a copy of a batch costs as much
            as the mixing.
        labels: float32 (group, num_classes), smoothed.
        mixup, cutmix: floats. Alphas of the beta distributions that lambda comes from; 0 is off.
        rng: a numpy generator.

    Returns:
        ``images`` itself, and labels of the given shape. The labels of CutMix are weighted by the
        area of the box inside the image.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> from keras_deit.data.mixing import mix
        >>> images, labels = np.ones((2, 8, 8, 3), np.float32), np.eye(2, dtype=np.float32)
        >>> _, mixed = mix(images, labels, mixup=0.8, cutmix=1.0, rng=np.random.default_rng(0))
        >>> mixed.sum(axis=1).round(4).tolist()
        [1.0, 1.0]
    """
    if not mixup and not cutmix:
        return images, labels

    use_cutmix = bool(cutmix) and (not mixup or rng.random() < SWITCH)
    alpha = cutmix if use_cutmix else mixup
    lam = rng.beta(alpha, alpha)

    if use_cutmix:
        lam = _paste_boxes(images, lam, rng)
    else:
        _blend_pairs(images, lam)

    lam = np.float32(lam)
    return images, labels * lam + labels[::-1] * (1 - lam)


def _blend_pairs(images, lam):
    """Mixup, in place, pair by pair: a pair stays in the processor's cache."""
    for i in range((len(images) + 1) // 2):
        image, partner = images[i], images[-1 - i]
        mixed = cv2.addWeighted(image, lam, partner, 1 - lam, 0)
        images[-1 - i] = cv2.addWeighted(partner, lam, image, 1 - lam, 0)
        images[i] = mixed


def _paste_boxes(images, lam, rng):
    """CutMix, in place. Returns the fraction of an image that the box leaves."""
    size = np.array(images.shape[1:3])
    box = (size * np.sqrt(1 - lam)).astype(int)
    center = rng.integers(0, size)

    # timm 0.3.2, of the published training, left out the last row and column of an odd box.
    top, left = np.maximum(center - box // 2, 0)
    bottom, right = np.minimum(center + (box + 1) // 2, size)

    boxes = images[:, top:bottom, left:right]
    boxes[:] = boxes[::-1].copy()
    return 1 - (bottom - top) * (right - left) / np.prod(size)
