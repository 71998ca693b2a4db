"""``VARIANTS``: every model by name, one frozen row each. Published models keep their names.

A new variant is a new row, published or not.

Example:
    >>> import keras_deit as kd
    >>> row = kd.VARIANTS["deit_tiny_patch16_224"]
    >>> row.width, row.published.imagenet[0].top1
    (192, 72.202)
"""

from dataclasses import dataclass

from keras_deit.utils.errors import UserError

FILES = "https://dl.fbaipublicfiles.com/deit"  # the official weights


@dataclass(frozen=True)
class Score:
    """Accuracies of a model on a validation set, in percent.

    Args:
        crop: float in (0, 1]. Center-crop ratio they were measured at.
        top1: float.
        top5: float, or None if not published. Default None.
    """

    crop: float
    top1: float
    top5: float | None = None


@dataclass(frozen=True)
class Published:
    """The files of a model's published weights, and their scores.

    Args:
        file: str. Name of the official file, below ``FILES``.
        sha256: str. First hexadecimal digits of that file's hash, 8 or more.
        hub: str. Hugging Face repository of the same weights under timm's names.
        paper: float. Top-1 accuracy on ImageNet in the paper (Table 5; the teacher's: Table 2), in
            percent.
        imagenet: tuple of ``Score``. On ImageNet: the official README's, then timm's.
        real: ``Score``. On ImageNet-ReaL, timm's.
        v2: ``Score``. On ImageNet-V2 (matched frequency), timm's.
    """

    file: str
    sha256: str
    hub: str
    paper: float
    imagenet: tuple[Score, ...]
    real: Score
    v2: Score


@dataclass(frozen=True)
class DeiTVariant:
    """Constructor arguments of a ``DeiT``, explained there.

    Args:
        params: int. Number of its parameters, with ``num_classes`` classes.
        published: ``Published``, or None without published weights. Default None.
    """

    width: int
    heads: int
    params: int
    image_size: int = 224
    patch_size: int = 16
    depth: int = 12
    mlp_ratio: float = 4.0
    distilled: bool = False
    num_classes: int = 1000
    drop_path: float = 0.0
    dropout: float = 0.0
    published: Published | None = None


@dataclass(frozen=True)
class RegNetYVariant:
    """Constructor arguments of a ``RegNetY``, explained there.

    Args:
        params: int. Number of its trainable parameters, with ``num_classes`` classes.
        image_size: int. Pixels it was trained at; it takes any size. Default 224.
        published: ``Published``, or None without published weights. Default None.
    """

    stem: int
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    group_width: int
    params: int
    image_size: int = 224
    num_classes: int = 1000
    published: Published | None = None


VARIANTS = {
    "deit_tiny_patch16_224": DeiTVariant(
        width=192,
        heads=3,
        params=5_717_416,
        published=Published(
            file="deit_tiny_patch16_224-a1311bcf.pth",
            sha256="a1311bcf",
            hub="timm/deit_tiny_patch16_224.fb_in1k",
            paper=72.2,
            imagenet=(Score(crop=0.875, top1=72.202, top5=91.124),),
            real=Score(crop=0.9, top1=80.026, top5=94.464),
            v2=Score(crop=0.9, top1=59.920, top5=82.750),
        ),
    ),
    "deit_small_patch16_224": DeiTVariant(
        width=384,
        heads=6,
        params=22_050_664,
        published=Published(
            file="deit_small_patch16_224-cd65a155.pth",
            sha256="cd65a155",
            hub="timm/deit_small_patch16_224.fb_in1k",
            paper=79.8,
            imagenet=(Score(crop=0.875, top1=79.854, top5=94.968),),
            real=Score(crop=0.9, top1=85.672, top5=96.913),
            v2=Score(crop=0.9, top1=68.530, top5=88.170),
        ),
    ),
    "deit_base_patch16_224": DeiTVariant(
        width=768,
        heads=12,
        params=86_567_656,
        published=Published(
            file="deit_base_patch16_224-b5f2ef4d.pth",
            sha256="b5f2ef4d",
            hub="timm/deit_base_patch16_224.fb_in1k",
            paper=81.8,
            imagenet=(
                Score(crop=0.875, top1=81.846, top5=95.594),
                Score(crop=0.9, top1=81.980),
            ),
            real=Score(crop=0.9, top1=86.833, top5=97.062),
            v2=Score(crop=0.9, top1=70.970, top5=89.180),
        ),
    ),
    "deit_base_patch16_384": DeiTVariant(
        width=768,
        heads=12,
        params=86_859_496,
        image_size=384,
        published=Published(
            file="deit_base_patch16_384-8de9b5d1.pth",
            sha256="8de9b5d1",
            hub="timm/deit_base_patch16_384.fb_in1k",
            paper=83.1,
            imagenet=(
                Score(crop=0.875, top1=82.890, top5=96.222),
                Score(crop=1.0, top1=83.108),
            ),
            real=Score(crop=1.0, top1=87.862, top5=97.510),
            v2=Score(crop=1.0, top1=72.520, top5=90.200),
        ),
    ),
    "deit_tiny_distilled_patch16_224": DeiTVariant(
        width=192,
        heads=3,
        params=5_910_800,
        distilled=True,
        published=Published(
            file="deit_tiny_distilled_patch16_224-b40b3cf7.pth",
            sha256="b40b3cf7",
            hub="timm/deit_tiny_distilled_patch16_224.fb_in1k",
            paper=74.5,
            imagenet=(Score(crop=0.875, top1=74.476, top5=91.920),),
            real=Score(crop=0.9, top1=82.012, top5=95.145),
            v2=Score(crop=0.9, top1=62.760, top5=83.850),
        ),
    ),
    "deit_small_distilled_patch16_224": DeiTVariant(
        width=384,
        heads=6,
        params=22_436_432,
        distilled=True,
        published=Published(
            file="deit_small_distilled_patch16_224-649709d9.pth",
            sha256="649709d9",
            hub="timm/deit_small_distilled_patch16_224.fb_in1k",
            paper=81.2,
            imagenet=(Score(crop=0.875, top1=81.164, top5=95.376),),
            real=Score(crop=0.9, top1=86.985, top5=97.314),
            v2=Score(crop=0.9, top1=70.510, top5=89.380),
        ),
    ),
    "deit_base_distilled_patch16_224": DeiTVariant(
        width=768,
        heads=12,
        params=87_338_192,
        distilled=True,
        published=Published(
            file="deit_base_distilled_patch16_224-df68dfff.pth",
            sha256="df68dfff",
            hub="timm/deit_base_distilled_patch16_224.fb_in1k",
            paper=83.4,
            imagenet=(
                Score(crop=0.875, top1=83.372, top5=96.482),
                Score(crop=0.9, top1=83.384),
            ),
            real=Score(crop=0.9, top1=88.212, top5=97.912),
            v2=Score(crop=0.9, top1=72.970, top5=90.960),
        ),
    ),
    "deit_base_distilled_patch16_384": DeiTVariant(
        width=768,
        heads=12,
        params=87_630_032,
        image_size=384,
        distilled=True,
        published=Published(
            file="deit_base_distilled_patch16_384-d0272ac0.pth",
            sha256="d0272ac0",
            hub="timm/deit_base_distilled_patch16_384.fb_in1k",
            paper=85.2,
            imagenet=(
                Score(crop=0.875, top1=85.224, top5=97.186),
                Score(crop=1.0, top1=85.438),
            ),
            real=Score(crop=1.0, top1=89.434, top5=98.441),
            v2=Score(crop=1.0, top1=75.400, top5=92.520),
        ),
    ),
    "regnety_160": RegNetYVariant(
        stem=32,
        depths=(2, 4, 11, 1),
        widths=(224, 448, 1232, 3024),
        group_width=112,
        params=83_590_140,
        published=Published(
            file="regnety_160-a5fe301d.pth",
            sha256="a5fe301d",
            hub="timm/regnety_160.deit_in1k",
            paper=82.9,
            imagenet=(Score(crop=0.95, top1=83.0),),
            real=Score(crop=0.95, top1=88.168, top5=97.818),
            v2=Score(crop=0.95, top1=72.800, top5=90.930),
        ),
    ),
    "deit_digits": DeiTVariant(
        width=64,
        heads=4,
        params=69_706,
        image_size=8,
        patch_size=2,
        depth=2,
        mlp_ratio=2.0,
        num_classes=10,
    ),
    "deit_digits_distilled": DeiTVariant(
        width=64,
        heads=4,
        params=70_484,
        image_size=8,
        patch_size=2,
        depth=2,
        mlp_ratio=2.0,
        distilled=True,
        num_classes=10,
    ),
    "regnety_digits": RegNetYVariant(
        stem=32,
        depths=(1, 1),
        widths=(48, 96),
        group_width=16,
        params=50_830,
        image_size=8,
        num_classes=10,
    ),
    "regnety_digits_small": RegNetYVariant(
        stem=16,
        depths=(1, 1),
        widths=(16, 32),
        group_width=8,
        params=7_890,
        image_size=8,
        num_classes=10,
    ),
}


def find(name):
    """The variant of a name.

    Args:
        name: str. A row of ``VARIANTS``.

    Raises:
        UserError: there is no such row; lists those that there are.

    Example:
        >>> from keras_deit.configs import variants
        >>> variants.find("deit_tiny_patch16_224").width
        192
    """
    if name not in VARIANTS:
        raise UserError(f"unknown variant {name!r}: expected one of {', '.join(VARIANTS)}")
    return VARIANTS[name]
