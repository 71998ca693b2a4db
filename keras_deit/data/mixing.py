"""Label smoothing, mixup and CutMix, one choice and one lambda per group of images (timm
``mixup.py``, whose group is what one GPU holds)."""

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
        images: float32 (batch, height, width, 3).
        labels: float32 (batch, num_classes), smoothed already.
        mixup, cutmix: alphas of the beta distributions lambda comes from; 0 for none.
        rng: a numpy generator; the groups draw from it in turn.
        group: images that are mixed with each other and share choice and lambda, a divisor of the
            batch; None is the whole batch.

    Returns:
        Images and labels of the same shapes. CutMix's labels go by the share of the box that lies
        inside the image.
    """
    if not mixup and not cutmix:
        return images, labels
    group = group or len(images)
    groups = [slice(start, start + group) for start in range(0, len(images), group)]
    mixed = [_mix(images[part], labels[part], mixup, cutmix, rng) for part in groups]
    return mixed[0] if len(mixed) == 1 else tuple(map(np.concatenate, zip(*mixed, strict=True)))


def _mix(images, labels, mixup, cutmix, rng):
    cut = bool(cutmix) and (not mixup or rng.random() < SWITCH)
    share = rng.beta(*(2 * [cutmix if cut else mixup]))
    if cut:
        images, share = _cut(images, share, rng)
    else:
        images = images * np.float32(share) + images[::-1] * np.float32(1 - share)
    return images, labels * np.float32(share) + labels[::-1] * np.float32(1 - share)


def _cut(images, share, rng):
    size = np.array(images.shape[1:3])
    box = (size * np.sqrt(1 - share)).astype(int)
    center = rng.integers(0, size)
    # timm 0.3.2, of the published training, left the last row and column of an odd box out.
    (top, left), (bottom, right) = (
        np.maximum(center - box // 2, 0),
        np.minimum(center + (box + 1) // 2, size),
    )
    mixed = images.copy()
    mixed[:, top:bottom, left:right] = images[::-1, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / np.prod(size)
