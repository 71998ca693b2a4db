"""What weights are, by the names and shapes of their parameters: for errors that say what fits."""

import math
import re

from keras_deit.configs.variants import VARIANTS
from keras_deit.models.factory import variant_fields

# Models that no class here is, by a name that only their parameters have; the first that fits.
OTHERS = (
    ("a DINOv2 vision transformer", r"(^|\.)mask_token$"),
    ("a BEiT", r"relative_position_(bias|index)|\.attn\.q_bias$"),
    ("a CaiT", r"^blocks_token_only\."),
    ("a DeiT III, or another vision transformer with LayerScale", r"\.(gamma_1|ls1\.gamma)$"),
    ("a vision transformer with class token and register tokens", r"(^|\.)reg(ister)?_tokens?$"),
    ("a Swin transformer", r"^layers\.\d+\.(blocks|downsample)\."),
    ("a CLIP model", r"(^|\.)(logit_scale|visual\.|vision_model\.|class_embedding$)"),
    ("a ConvNeXt", r"^stages\.\d+\.(blocks\.)?\d+\.(gamma|dwconv|conv_dw)"),
    ("a ResNet", r"^layer1\.0\.conv1\.weight$"),
    ("an EfficientNet", r"^(conv_stem|features\.0\.0)\.weight$"),
)
# Parameters of a DeiT and their ranks, and of a RegNet.
VIT = {"cls_token": 3, "pos_embed": 3, "patch_embed.proj.weight": 4}
REGNET = ("stem.conv.weight", "s1.b1.conv1.conv.weight")


def what_it_is(shapes):
    """What weights are, a str; "" if nothing is known.

    Args:
        shapes: dict of tuples, by timm's names.

    Example:
        >>> from keras_deit.weights.identify import what_it_is
        >>> what_it_is({"blocks.0.ls1.gamma": (384,)})
        'it is a DeiT III, or another vision transformer with LayerScale, which is no model here'
    """
    for kind, pattern in OTHERS:
        if any(re.search(pattern, name) for name in shapes):
            return f"it is {kind}, which is no model here"

    shape = _vit_shape(shapes)
    if shape:
        patches = shapes["pos_embed"][1] - 1 - shape["distilled"]
        side = math.isqrt(max(patches, 0))
        size = f"{side * shape['patch_size']} pixels" if side**2 == patches else "another shape"
        return (
            f"it is a {'distilled DeiT' if shape['distilled'] else 'DeiT or ViT'} of width"
            f" {shape['width']}, depth {shape['depth']}, patches of {shape['patch_size']} pixels,"
            f" images of {size}, {_classes(shapes)}"
        )
    return f"it is a RegNet of {_classes(shapes)}" if set(shapes) >= set(REGNET) else ""


def fitting_variant(shapes):
    """The row of ``VARIANTS`` for weights of any resolution and number of classes, or None.

    Its number of attention heads, which no parameter shows, is that of the published models.
    """
    shape = _vit_shape(shapes)
    if not shape or any(re.search(pattern, name) for _, pattern in OTHERS for name in shapes):
        return None
    rows = ((variant, variant_fields(variant)) for variant in VARIANTS)
    return next((variant for variant, row in rows if shape.items() <= row.items()), None)


def _vit_shape(shapes):
    """The constructor fields that a vision transformer's parameters show; empty of another."""
    if not all(len(shapes.get(name, ())) == rank for name, rank in VIT.items()):
        return {}
    width, _, patch_size, _ = shapes["patch_embed.proj.weight"]
    depth = sum(name.endswith("attn.qkv.weight") for name in shapes)
    distilled = "dist_token" in shapes
    return {"width": width, "depth": depth, "patch_size": patch_size, "distilled": distilled}


def _classes(shapes):
    count = head_classes(shapes)
    return f"{count} classes" if count else "no head (new_heads=True makes one)"


def head_classes(shapes):
    """The number of classes of the class token's head; None without one."""
    for name in ("head.bias", "head.fc.bias"):
        if len(shapes.get(name, ())) == 1:
            return shapes[name][0]
    return None
