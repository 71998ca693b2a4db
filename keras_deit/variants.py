"""The models by name, one frozen row each. Published models keep their published names."""

from dataclasses import dataclass

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of images in [0, 1]


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


def _digits(params, distilled):
    """Sixteen 2-pixel patches of an 8x8 image."""
    size = {"image_size": 8, "patch_size": 2, "depth": 2, "num_classes": 10}
    return DeiTVariant(64, 4, params, distilled=distilled, mlp_ratio=2.0, **size)


VARIANTS = {
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
