"""Parameter names and layouts as data.

Published files hold timm's names (the official code's too) or transformers', in PyTorch's layout;
here everything is brought to timm's names, and our variables are paired with them.
"""

import re

import numpy as np

# Our variable's path, without the model's name and with dots for slashes, to timm's name.
TIMM = (
    (r"^tokens\.", ""),
    (r"\.(kernel|gamma)$", ".weight"),
    (r"\.beta$", ".bias"),
    (r"\.moving_mean$", ".running_mean"),
    (r"\.moving_variance$", ".running_var"),
)

# Its squeeze-excitations are 1x1 convolutions in timm and dense layers here.
CONVOLUTIONS = r"\.se\.fc\d\.weight$"

# BatchNorm's step counters, which nothing reads.
UNUSED = r"\.bn\.num_batches_tracked$"

# transformers' DeiT and ViT to timm, but for q, k and v, which timm has in one matrix: the names of
# its files, which are those of its modules before version 5, and of its modules since.
TRANSFORMERS = (
    (r"^(deit|vit)\.", ""),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(encoder\.layer|layers)\.", "blocks."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.(?:attention\.)?(q|k|v)(?:uery|ey|alue|_proj)\.", r".attn.\1."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
    (r"^(cls_)?classifier\.", "head."),
    (r"^distillation_classifier\.", "head_dist."),
)

_TO_TIMM = {4: (3, 2, 0, 1), 2: (1, 0)}  # axes, by rank
_FROM_TIMM = {4: (2, 3, 1, 0), 2: (1, 0)}


def variables(model):
    """A model's variables by timm's names, those of random states left out."""
    found = {}
    for variable in model.variables:
        if "seed_generator" not in variable.path:
            name = variable.path.split(f"{model.name}/", 1)[1].replace("/", ".")
            found[_rename(name, TIMM)] = variable
    return found


def to_timm(name, value):
    """A variable's array in PyTorch's layout: (out, in) and (out, in, height, width)."""
    value = value.transpose(_TO_TIMM.get(value.ndim, range(value.ndim)))
    return value[:, :, None, None] if re.search(CONVOLUTIONS, name) else value


def from_timm(name, value):
    """The inverse of ``to_timm``."""
    if re.search(CONVOLUTIONS, name) and value.ndim == 4:
        value = value[:, :, 0, 0]
    return value.transpose(_FROM_TIMM.get(value.ndim, range(value.ndim)))


def in_timm_names(tensors):
    """``tensors``, functions that give arrays, by timm's names, from timm's or transformers'."""
    if not any(name.endswith("embeddings.cls_token") for name in tensors):
        return {name: get for name, get in tensors.items() if not re.search(UNUSED, name)}
    renamed = {_rename(name, TRANSFORMERS): get for name, get in tensors.items()}
    if len(renamed) < len(tensors):
        raise ValueError("two of its parameters are the same one in timm's names")
    for name in [name for name in renamed if ".attn.q." in name]:
        parts = [name.replace(".q.", f".{part}.") for part in "qkv"]
        if all(part in renamed for part in parts):
            renamed[name.replace(".q.", ".qkv.")] = _joined([renamed.pop(part) for part in parts])
    return renamed


def _joined(getters):
    return lambda: np.concatenate([get() for get in getters])


def _rename(name, patterns):
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name
