"""RandAugment as DeiT was trained with it: timm's ``rand-m9-mstd0.5-inc1``.

Two operations are drawn of fifteen, with replacement, and each is then applied to the image or not.
Operations are Pillow's (ImageOps, ImageEnhance, Image.rotate, Image.transform), levels and
probabilities timm's ``auto_augment.py``. Images are uint8 (height, width, 3), in and out.

An operation is numpy's or OpenCV's where that gives Pillow's values sooner, to 1 level everywhere,
and Pillow's own where not. OpenCV's cubic is no substitute: its parameter is -0.75, Pillow's -1.
"""

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageOps

DRAWN = 2  # operations for an image
PROBABILITY = 0.5  # that a drawn one is applied, and that a sign is negative
LEVEL, SPREAD, TOP = 9, 0.5, 10  # levels are normal, clipped to [0, TOP]
FILL = (124, 116, 104)  # ImageNet's mean, where an operation has no pixel of the image to show

cv2.setNumThreads(1)  # images go to threads one each: OpenCV's own would only compete with those


def draw(rng):
    """The operations for an image, in order: [(name, parameter), ...], none to ``DRAWN`` of them.

    Always takes the same numbers from the generator: which ones, whether, the signs, the levels.
    """
    which, whether, negative = rng.random((3, DRAWN)).tolist()
    levels = rng.normal(LEVEL, SPREAD, DRAWN).tolist()
    names, drawn = list(OPERATIONS), []
    for i, level in enumerate(levels):
        name = names[int(which[i] * len(names))]
        sign = -1 if negative[i] < PROBABILITY else 1
        if whether[i] < PROBABILITY:
            parameter, _ = OPERATIONS[name]
            drawn.append((name, parameter(min(max(level, 0), TOP), sign)))
    return drawn


def apply(image, operations):
    """The image after ``[(name, parameter), ...]``; the given one where there are none."""
    for name, parameter in operations:
        _, operation = OPERATIONS[name]
        image = operation(image, parameter)
    return image


def _of_level(most):
    return lambda level, sign: sign * most * level / TOP


def _factor(level, sign):
    return max(0.1, 1 + sign * 0.9 * level / TOP)


def _none(level, sign):
    return None


def _autocontrast(image, _):
    return np.asarray(ImageOps.autocontrast(Image.fromarray(image)))


def _equalize(image, _):
    return np.asarray(ImageOps.equalize(Image.fromarray(image)))


def _invert(image, _):
    return 255 - image


def _posterize(image, bits):
    return image & np.uint8(256 - (1 << (8 - bits)))


def _solarize(image, threshold):
    return cv2.LUT(image, np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS))


def _solarize_add(image, added):
    return cv2.LUT(image, np.where(_LEVELS < 128, _LEVELS + np.uint8(added), _LEVELS))


def _color(image, factor):
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, grey, 1 - factor, _TRUNCATE)


def _contrast(image, factor):
    mean = int(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return cv2.LUT(image, _blend(mean, factor))


def _brightness(image, factor):
    return cv2.LUT(image, _blend(0, factor))


def _sharpness(image, factor):
    """Blends with the mean over 3 x 3 pixels, the middle one counted five times; the outermost
    pixels stay."""
    kernel = np.full((3, 3), (1 - factor) / 13)
    kernel[1, 1] = (1 - factor) * 5 / 13 + factor
    sharp = cv2.filter2D(image, -1, kernel, delta=_TRUNCATE)
    sharp[[0, -1]] = image[[0, -1]]
    sharp[:, [0, -1]] = image[:, [0, -1]]
    return sharp


def _rotate(image, degrees):
    rotated = Image.fromarray(image).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=FILL)
    return np.asarray(rotated)


def _shear_x(image, factor):
    return _shift(image, factor * (np.arange(len(image)) + 0.5))


def _shear_y(image, factor):
    return cv2.transpose(_shear_x(cv2.transpose(image), factor))


def _translate_x(image, share):
    return _shift(image, np.full(len(image), share * image.shape[1]))


def _translate_y(image, share):
    return cv2.transpose(_translate_x(cv2.transpose(image), share))


def _shift(image, offsets):
    """Each row moved left by its offset, in pixels, as Image.transform with BICUBIC does.

    Beyond the outermost pixels' middles their values go on for half a pixel; then comes FILL.
    """
    height, width, _ = image.shape
    whole = np.floor(offsets).astype(int)
    right = (offsets - whole).astype(np.float32)
    left = 1 - right
    # The cubic convolution of R. Keys (1981) with parameter -1, for the pixel before, the two that
    # the place lies between, and the one after.
    weights = (-right * left**2, 1 + right**2 * (right - 2), 1 + left**2 * (left - 2))
    weights = np.stack([*weights, -left * right**2], axis=1)
    room = int(np.abs(whole).max()) + 2
    wide = cv2.copyMakeBorder(image, 0, 0, room, room, cv2.BORDER_REPLICATE).reshape(height, -1)
    starts = sliding_window_view(wide, 3 * (width + 3), axis=1)
    near = starts[np.arange(height), 3 * (room + whole - 1)].astype(np.float32)
    taps = sliding_window_view(near, 3 * width, axis=1)[:, ::3]
    moved = np.einsum("yk,ykx->yx", weights, taps)
    moved += 0.001  # float32 falls short of a whole number where Pillow's doubles do not
    moved = np.clip(moved, 0, 255, out=moved).astype(np.uint8).reshape(image.shape)
    middles = np.arange(width) + (offsets + 0.5)[:, None]
    outside = ((middles < 0) | (middles >= width)).view(np.uint8)
    return cv2.copyTo(_filled(height, width), outside, moved)


def _filled(height, width):
    row = np.tile(np.array(FILL, np.uint8), width)
    return np.repeat(row[None], height, axis=0).reshape(height, width, 3)


def _blend(value, factor):
    """The table of Image.blend: from ``value`` at factor 0 to the identity at 1, and beyond."""
    return np.clip(value + factor * (_LEVELS - float(value)), 0, 255).astype(np.uint8)


_LEVELS = np.arange(256, dtype=np.uint8)
_TRUNCATE = -0.4999  # added before OpenCV rounds: Pillow's blend drops the fraction

# What to do by name: the parameter from level and sign (1 or -1), then the image from that.
OPERATIONS = {
    "AutoContrast": (_none, _autocontrast),
    "Equalize": (_none, _equalize),
    "Invert": (_none, _invert),
    "Rotate": (_of_level(30), _rotate),  # degrees, anticlockwise
    "Posterize": (lambda level, _: 4 - int(4 * level / TOP), _posterize),  # bits kept
    "Solarize": (lambda level, _: 256 - int(256 * level / TOP), _solarize),  # inverted from here
    "SolarizeAdd": (lambda level, _: int(110 * level / TOP), _solarize_add),
    "Color": (_factor, _color),
    "Contrast": (_factor, _contrast),
    "Brightness": (_factor, _brightness),
    "Sharpness": (_factor, _sharpness),
    "ShearX": (_of_level(0.3), _shear_x),
    "ShearY": (_of_level(0.3), _shear_y),
    "TranslateX": (_of_level(0.45), _translate_x),  # of the width
    "TranslateY": (_of_level(0.45), _translate_y),  # of the height
}
