"""Parameter names and layouts as data.

Published files hold timm's names (the official code's too) or transformers', in PyTorch's layout;
here everything is brought to timm's names, and the model's variables are paired with them. A model
family whose layers are named as in timm needs no further pattern.
"""

import re

import numpy as np

from keras_deit.models.lora import ADAPTER, merged_weights

# The path of a variable, without the model's name and with dots for slashes -> timm's name.
TIMM = (
    (r"^tokens\.", ""),
    (r"\.(kernel|gamma)$", ".weight"),
    (r"\.beta$", ".bias"),
    (r"\.moving_mean$", ".running_mean"),
    (r"\.moving_variance$", ".running_var"),
)

# Squeeze-excitations are 1x1 convolutions in timm and dense layers here.
CONVOLUTIONS = r"\.se\.fc\d\.weight$"

# BatchNorm's step counters, which nothing reads.
UNUSED = r"\.bn\.num_batches_tracked$"

# What wrappers put before all names: DataParallel, Lightning, torch.compile.
PREFIXES = ("module.", "model.", "_orig_mod.")

# The heads: the class token's (of a convnet, the only one) and the distillation token's.
CLASS_HEAD = "head."
HEADS = (CLASS_HEAD, "head_dist.")
POOLER = "pooler."  # transformers' layer after the features, which no classifier of it uses

# transformers' DeiT and ViT to timm, but for q, k and v, which timm has in one matrix: the names in
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

# Axes, by rank. A kernel is (height, width, in, out) in Keras, (out, in, height, width) in PyTorch;
# a matrix (in, out) in Keras, (out, in) in PyTorch.
_TO_TIMM = {4: (3, 2, 0, 1), 2: (1, 0)}
_FROM_TIMM = {4: (2, 3, 1, 0), 2: (1, 0)}


def variables(model):
    """A model's variables by timm's names, without random generators' states and LoRA adapters.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.weights.names import variables
        >>> sorted(variables(kd.build("regnety_digits")))[:2]
        ['head.fc.bias', 'head.fc.weight']
    """
    by_name = {}
    for variable in model.variables:
        # "seed_generator_state" is keras/src/random/seed_generator.py's name for its variable, and
        # a path is keras/src/backend/common/variables.py's: names of scopes, models and layers.
        if "seed_generator" not in variable.path and not variable.name.startswith(ADAPTER):
            name = variable.path.split(f"{model.name}/", 1)[1].replace("/", ".")
            by_name[_rename(name, TIMM)] = variable
    return by_name


def readers(model):
    """A model's parameters by timm's names, with LoRA merged.

    Returns:
        A dict of functions without arguments that read float32 arrays in PyTorch's layout.

    Raises:
        UserError: the model is quantized.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.weights.names import readers
        >>> readers(kd.build("regnety_digits"))["head.fc.weight"]().shape
        (10, 96)
    """
    values = {id(variable): read for variable, read in merged_weights(model)}

    def reader(name, read):
        return lambda: to_timm(name, read())

    return {name: reader(name, values[id(variable)]) for name, variable in variables(model).items()}


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
    """Tensors under timm's names, from timm's or transformers', with or without ``PREFIXES``.

    Args:
        tensors: dict of name -> function without arguments that reads the array.

    Returns:
        Such a dict. transformers' queries, keys and values of a block are one tensor in it.

    Raises:
        ValueError: two names are the same one in timm.
    """
    while prefix := next((prefix for prefix in PREFIXES if _all_begin(tensors, prefix)), None):
        tensors = {name.removeprefix(prefix): read for name, read in tensors.items()}

    if not any(name.endswith("embeddings.cls_token") for name in tensors):
        return {name: read for name, read in tensors.items() if not re.search(UNUSED, name)}

    renamed = {_rename(name, TRANSFORMERS): read for name, read in tensors.items()}
    if len(renamed) < len(tensors):
        raise ValueError("two of its parameters are the same one in timm's names")

    for query in [name for name in renamed if ".attn.q." in name]:
        projections = [query.replace(".q.", f".{letter}.") for letter in "qkv"]
        if all(name in renamed for name in projections):
            readers = [renamed.pop(name) for name in projections]
            renamed[query.replace(".q.", ".qkv.")] = _concatenated(readers)
    return renamed


def _all_begin(names, prefix):
    return bool(names) and all(name.startswith(prefix) for name in names)


def _concatenated(readers):
    return lambda: np.concatenate([read() for read in readers])


def _rename(name, patterns):
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name
