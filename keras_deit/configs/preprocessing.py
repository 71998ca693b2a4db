"""``Preprocessing``: how a model wants its images, which its file remembers."""

from dataclasses import dataclass

# Of ImageNet's channels red, green and blue, for images in [0, 1].
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How image files become a model's input, beside its size.

    Args:
        mean: tuple of 3 floats. Subtracted from red, green and blue in [0, 1]. Default: ImageNet's.
        std: tuple of 3 positive floats. Divides what is left. Default: ImageNet's.
        upright: bool. Whether an image is turned as its EXIF orientation says. Default False, as
            all published models were trained and scored.

    Example:
        >>> from keras_deit.configs.preprocessing import Preprocessing
        >>> Preprocessing().mean
        (0.485, 0.456, 0.406)
    """

    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    upright: bool = False


IMAGENET = Preprocessing()  # of every published model
