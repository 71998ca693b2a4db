"""RandAugment as DeiT was trained with it: timm's ``rand-m9-mstd0.5-inc1``.

Two of fifteen operations are drawn, with replacement, and each is then applied to the image or not.
Operations are Pillow's (ImageOps, ImageEnhance, Image.rotate, Image.transform), levels and
probabilities timm's ``auto_augment.py``. Images are uint8 (height, width, 3), in and out.

An operation uses numpy or OpenCV if that gives Pillow's values, to 1 level everywhere, in less
time, and else Pillow itself. OpenCV's cubic is no substitute: its parameter is -0.75, Pillow's -1.
"""

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageOps

DRAWN = 2  # operations per image
PROBABILITY = 0.5  # that a drawn operation is applied, and that a sign is negative
MEAN_LEVEL = 9  # levels are normally distributed ...
LEVEL_SPREAD = 0.5  # ... with this standard deviation ...
MAX_LEVEL = 10  # ... clipped to [0, MAX_LEVEL]
FILL = (124, 116, 104)  # ImageNet's mean, for pixels from beyond the image's borders


def draw(rng):
    """Draws the operations for an image.

    Always takes the same numbers from the generator: which operations, whether to apply each, the
    signs, the levels.

    Args:
        rng: a numpy generator.

    Returns:
        A list of (name, parameter), in order, of at most ``DRAWN`` operations.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> from keras_deit.data.randaugment import draw
        >>> [name for name, _ in draw(np.random.default_rng(1))]
        ['Color']
    """
    choices, applied, negative = rng.random((3, DRAWN)).tolist()
    levels = rng.normal(MEAN_LEVEL, LEVEL_SPREAD, DRAWN).tolist()

    names = list(OPERATIONS)
    operations = []
    for i in range(DRAWN):
        if applied[i] >= PROBABILITY:
            continue
        name = names[int(choices[i] * len(names))]
        sign = -1 if negative[i] < PROBABILITY else 1
        level = min(max(levels[i], 0), MAX_LEVEL)
        parameter_of, _ = OPERATIONS[name]
        operations.append((name, parameter_of(level, sign)))
    return operations


def apply(image, operations):
    """Applies operations in turn.

    Args:
        image: uint8 (height, width, 3). It is not changed.
        operations: a list of (name, parameter), as ``draw`` returns it.

    Returns:
        uint8 (height, width, 3); ``image`` itself if there are no operations.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> from keras_deit.data.randaugment import apply
        >>> apply(np.zeros((1, 1, 3), np.uint8), [("Invert", None)]).tolist()
        [[[255, 255, 255]]]
    """
    for name, parameter in operations:
        _, operation = OPERATIONS[name]
        image = operation(image, parameter)
    return image


# Parameters from a level in [0, MAX_LEVEL] and a sign, 1 or -1.


def _signed(maximum):
    return lambda level, sign: sign * maximum * level / MAX_LEVEL


def _enhancement(level, sign):
    return max(0.1, 1 + sign * 0.9 * level / MAX_LEVEL)


def _bits_kept(level, _):
    return 4 - int(4 * level / MAX_LEVEL)


def _solarize_threshold(level, _):
    return 256 - int(256 * level / MAX_LEVEL)


def _solarize_addend(level, _):
    return int(110 * level / MAX_LEVEL)


def _no_parameter(level, sign):
    return None


# Operations on an image, with a parameter.


def _autocontrast(image, _):
    return np.asarray(ImageOps.autocontrast(Image.fromarray(image)))


def _equalize(image, _):
    return np.asarray(ImageOps.equalize(Image.fromarray(image)))


def _invert(image, _):
    return 255 - image


def _posterize(image, bits):
    return image & np.uint8(256 - (1 << (8 - bits)))


def _solarize(image, threshold):
    table = np.where(threshold > _GRAY_LEVELS, _GRAY_LEVELS, 255 - _GRAY_LEVELS)
    return cv2.LUT(image, table)


def _solarize_add(image, added):
    table = np.where(_GRAY_LEVELS < 128, _GRAY_LEVELS + np.uint8(added), _GRAY_LEVELS)
    return cv2.LUT(image, table)


def _color(image, factor):
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, gray, 1 - factor, _TRUNCATE)


def _contrast(image, factor):
    mean = int(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return cv2.LUT(image, _blend_table(mean, factor))


def _brightness(image, factor):
    return cv2.LUT(image, _blend_table(0, factor))


def _sharpness(image, factor):
    """Blends with the mean over 3 x 3 pixels, the middle one counted five times.

    The outermost pixels stay as they are.
    """
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
    return _shift_rows(image, factor * (np.arange(len(image)) + 0.5))


def _shear_y(image, factor):
    return cv2.transpose(_shear_x(cv2.transpose(image), factor))


def _translate_x(image, fraction):
    return _shift_rows(image, np.full(len(image), fraction * image.shape[1]))


def _translate_y(image, fraction):
    return cv2.transpose(_translate_x(cv2.transpose(image), fraction))


def _shift_rows(image, offsets):
    """Moves each row left by its offset, in pixels, as Image.transform with BICUBIC does.

    Beyond the centers of the outermost pixels their values continue for half a pixel; then comes
    FILL.
    """
    height, width, _ = image.shape
    pixels = np.floor(offsets).astype(int)
    right = (offsets - pixels).astype(np.float32)
    left = 1 - right

    # The cubic convolution of R. Keys (1981) with parameter -1, for the pixel before, the two that
    # the point lies between, and the one after. ``utils.interpolation`` has it too; here it is
    # written out in float32, as its rounding is part of every batch.
    weights = (-right * left**2, 1 + right**2 * (right - 2), 1 + left**2 * (left - 2))
    weights = np.stack([*weights, -left * right**2], axis=1)

    # Each row of ``near`` begins with the pixel before its first point, so that the four pixels
    # around each point are four views of it, a pixel (three values) apart.
    room = int(np.abs(pixels).max()) + 2
    wide = cv2.copyMakeBorder(image, 0, 0, room, room, cv2.BORDER_REPLICATE).reshape(height, -1)
    starts = sliding_window_view(wide, 3 * (width + 3), axis=1)
    near = starts[np.arange(height), 3 * (room + pixels - 1)].astype(np.float32)
    taps = sliding_window_view(near, 3 * width, axis=1)[:, ::3]

    moved = np.einsum("yk,ykx->yx", weights, taps)
    moved += 0.001  # float32 falls just below an integer that Pillow's doubles reach
    moved = np.clip(moved, 0, 255, out=moved).astype(np.uint8).reshape(image.shape)

    centers = np.arange(width) + (offsets + 0.5)[:, None]
    outside = ((centers < 0) | (centers >= width)).view(np.uint8)
    return cv2.copyTo(_filled(height, width), outside, moved)


def _filled(height, width):
    row = np.tile(np.array(FILL, np.uint8), width)
    return np.repeat(row[None], height, axis=0).reshape(height, width, 3)


def _blend_table(value, factor):
    """The table of Image.blend: from ``value`` at factor 0 to the identity at 1, and beyond."""
    table = value + factor * (_GRAY_LEVELS - float(value))
    return np.clip(table, 0, 255).astype(np.uint8)


_GRAY_LEVELS = np.arange(256, dtype=np.uint8)
_TRUNCATE = -0.4999  # added before OpenCV rounds: Pillow's blend drops the fraction

# By timm's name: the function that gives the parameter, and the operation.
OPERATIONS = {
    "AutoContrast": (_no_parameter, _autocontrast),
    "Equalize": (_no_parameter, _equalize),
    "Invert": (_no_parameter, _invert),
    "Rotate": (_signed(30), _rotate),  # degrees, anticlockwise
    "Posterize": (_bits_kept, _posterize),
    "Solarize": (_solarize_threshold, _solarize),  # levels from here on are inverted
    "SolarizeAdd": (_solarize_addend, _solarize_add),
    "Color": (_enhancement, _color),
    "Contrast": (_enhancement, _contrast),
    "Brightness": (_enhancement, _brightness),
    "Sharpness": (_enhancement, _sharpness),
    "ShearX": (_signed(0.3), _shear_x),
    "ShearY": (_signed(0.3), _shear_y),
    "TranslateX": (_signed(0.45), _translate_x),  # fraction of the width
    "TranslateY": (_signed(0.45), _translate_y),  # fraction of the height
}
