"""The models by name, one frozen row each. Published models keep their published names."""

from dataclasses import dataclass, replace

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of images in [0, 1]
FILES = "https://dl.fbaipublicfiles.com/deit"  # the official files


@dataclass(frozen=True)
class Score:
    """Accuracies in percent, None where not published, at the crop ratio they were measured at."""

    crop: float
    top1: float
    top5: float | None = None


@dataclass(frozen=True)
class Published:
    """Where a model's weights are, and what it scores.

    ``file`` is the official one, below ``FILES``; ``sha256`` is how its hash begins. ``hub`` is the
    Hugging Face repository of the same weights in timm's names, ``transformers`` the one in its
    own, where there is one. ``paper`` is the top-1 accuracy in the paper (its Table 5, the teacher
    Table 2). ``imagenet`` holds the official README's scores and timm's, ``real`` (ImageNet-ReaL)
    and ``v2`` (ImageNet-V2, matched frequency) are timm's.
    """

    file: str
    sha256: str
    hub: str
    transformers: str | None
    paper: float
    imagenet: tuple[Score, ...]
    real: Score
    v2: Score


@dataclass(frozen=True)
class DeiTVariant:
    """Shape of a ``DeiT``; ``params`` counts its parameters at ``num_classes`` classes."""

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
    """Shape of a ``RegNetY``; ``params`` counts its trainable parameters."""

    stem: int
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    group_width: int
    params: int
    image_size: int = 224
    num_classes: int = 1000
    published: Published | None = None


# The file's hash, the paper's top-1, the README's top-1 and top-5 at crop .875; then from timm's
# results files, at crop .9 (224 pixels) or 1 (384), those on ImageNet-ReaL and on ImageNet-V2, and
# for the base models top-1 on ImageNet.
_DEIT = """
tiny_patch16_224             a1311bcf 72.2 72.202 91.124 80.026 94.464 59.920 82.750
small_patch16_224            cd65a155 79.8 79.854 94.968 85.672 96.913 68.530 88.170
base_patch16_224             b5f2ef4d 81.8 81.846 95.594 86.833 97.062 70.970 89.180 81.980
base_patch16_384             8de9b5d1 83.1 82.890 96.222 87.862 97.510 72.520 90.200 83.108
tiny_distilled_patch16_224   b40b3cf7 74.5 74.476 91.920 82.012 95.145 62.760 83.850
small_distilled_patch16_224  649709d9 81.2 81.164 95.376 86.985 97.314 70.510 89.380
base_distilled_patch16_224   df68dfff 83.4 83.372 96.482 88.212 97.912 72.970 90.960 83.384
base_distilled_patch16_384   d0272ac0 85.2 85.224 97.186 89.434 98.441 75.400 92.520 85.438
"""


def _published(text):
    name, sha256, *numbers = text.split()
    name, crop = f"deit_{name}", 1.0 if name.endswith("384") else 0.9
    paper, top1, top5, real1, real5, v2_1, v2_5, *timm = map(float, numbers)
    return name, Published(
        file=f"{name}-{sha256}.pth",
        sha256=sha256,
        hub=f"timm/{name}.fb_in1k",
        transformers=f"facebook/{name.replace('_', '-')}",
        paper=paper,
        imagenet=(Score(0.875, top1, top5), *(Score(crop, score) for score in timm)),
        real=Score(crop, real1, real5),
        v2=Score(crop, v2_1, v2_5),
    )


_PUBLISHED = dict(map(_published, _DEIT.strip().splitlines()))
_PUBLISHED["regnety_160"] = Published(
    file="regnety_160-a5fe301d.pth",
    sha256="a5fe301d",
    hub="timm/regnety_160.deit_in1k",
    transformers=None,
    paper=82.9,
    imagenet=(Score(0.95, 83.0),),
    real=Score(0.95, 88.168, 97.818),
    v2=Score(0.95, 72.800, 90.930),
)


def _digits(params, distilled):
    """Sixteen 2-pixel patches of an 8x8 image."""
    size = {"image_size": 8, "patch_size": 2, "depth": 2, "num_classes": 10}
    return DeiTVariant(64, 4, params, distilled=distilled, mlp_ratio=2.0, **size)


_SHAPES = {
    "deit_tiny_patch16_224": DeiTVariant(192, 3, 5_717_416),
    "deit_small_patch16_224": DeiTVariant(384, 6, 22_050_664),
    "deit_base_patch16_224": DeiTVariant(768, 12, 86_567_656),
    "deit_base_patch16_384": DeiTVariant(768, 12, 86_859_496, 384),
    "deit_tiny_distilled_patch16_224": DeiTVariant(192, 3, 5_910_800, distilled=True),
    "deit_small_distilled_patch16_224": DeiTVariant(384, 6, 22_436_432, distilled=True),
    "deit_base_distilled_patch16_224": DeiTVariant(768, 12, 87_338_192, distilled=True),
    "deit_base_distilled_patch16_384": DeiTVariant(768, 12, 87_630_032, 384, distilled=True),
    "regnety_160": RegNetYVariant(32, (2, 4, 11, 1), (224, 448, 1232, 3024), 112, 83_590_140),
    "deit_digits": _digits(69_706, False),
    "deit_digits_distilled": _digits(70_484, True),
    "regnety_digits": RegNetYVariant(32, (1, 1), (48, 96), 16, 50_830, 8, 10),
}
VARIANTS = {name: replace(shape, published=_PUBLISHED.get(name)) for name, shape in _SHAPES.items()}
