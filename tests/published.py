"""Fills our models with timm's parameters, for goldens."""

import re

# Our variable path, without the model's name, to timm's key.
NAMES = (
    (r"^tokens\.", ""),
    (r"\.kernel$", ".weight"),
    (r"\.gamma$", ".weight"),
    (r"\.beta$", ".bias"),
    (r"\.moving_mean$", ".running_mean"),
    (r"\.moving_variance$", ".running_var"),
)


def fill(model, weights):
    """Assigns ``weights/<timm key>`` arrays; every variable and every key is used once."""
    left = {key.removeprefix("weights/"): v for key, v in weights.items() if "weights/" in key}
    for variable in model.variables:
        if "seed_generator" in variable.path:
            continue
        key = ".".join(variable.path.split("/")[1:])
        for pattern, name in NAMES:
            key = re.sub(pattern, name, key)
        variable.assign(_layout(left.pop(key), variable.shape))
    assert not left, sorted(left)
    return model


def _layout(value, shape):
    """PyTorch's (out, in, height, width) and (out, in) to Keras' (height, width, in, out)."""
    if value.ndim == 4 and len(shape) == 2:  # a 1x1 convolution that is a Dense here
        value = value[:, :, 0, 0]
    return value.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim, range(value.ndim)))
