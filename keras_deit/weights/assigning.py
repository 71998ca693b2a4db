"""Parameters into a model: strict, at any resolution."""

import math

import numpy as np

from keras_deit.models.deit import DeiT
from keras_deit.utils.errors import UserError
from keras_deit.weights.names import from_timm, variables
from keras_deit.weights.positions import resample

SHOWN = 8  # names of each sort in an error


def fit(path, model, tensors, *, other_heads, new_heads, change_tokens, grid):
    """Fills ``model`` with ``tensors``, functions that read arrays by timm's names; see ``load``.

    Args:
        path: what errors call the parameters.
        other_heads: whether heads of another number of classes are to be left as they are.
        new_heads: whether those of the same number are.
        change_tokens: whether the distillation token may come or go.
        grid: (rows, columns) of patches that the positions are of, if that is known.

    Returns:
        The names of variables that are as they were.
    """
    tensors = dict(tensors)
    fresh = _heads(path, model, tensors, other_heads, new_heads)
    if isinstance(model, DeiT) and "pos_embed" in tensors:
        fresh |= _tokens(path, model, tensors, change_tokens, grid)
    _fill(path, model, tensors, fresh)
    return fresh & variables(model).keys()


def _heads(path, model, tensors, other, new):
    """Leaves heads of other classes out of ``tensors``; the names of the variables that are new."""
    names = {name for name in tensors if name.split(".")[0] in ("head", "head_dist")}
    counts = {tensors[name]().shape[0] for name in names if name.endswith(".bias")}
    same = counts == {model.num_classes}
    if not counts or (same and not new):
        return set()
    count = min(counts)
    if not same and not other:
        raise UserError(
            f"{path} has heads of {count} classes and the model {model.num_classes}: give"
            f" num_classes={count} to load them, or another number for new heads; or is it another"
            " variant?"
        )
    for name in names:
        del tensors[name]
    return names


def _tokens(path, model, tensors, change, grid):
    """Brings tokens and positions to the model's; the names of the variables that are new."""
    distilled, fresh = "dist_token" in tensors, set()
    if distilled != model.distilled and not change:
        has, lacks = ("has a", "has none") if distilled else ("has no", "has one")
        raise UserError(
            f"{path} {has} distillation token and the model {lacks}, so it would be another"
            " function than the one trained: choose the other variant, or change_tokens=True"
        )
    own = variables(model)
    for name in ("dist_token", "head_dist.weight", "head_dist.bias"):
        if distilled and not model.distilled:
            tensors.pop(name, None)
        elif model.distilled and not distilled:
            fresh.add(name)
    found, start = tensors["pos_embed"](), np.array(own["pos_embed"])[0]
    if found.ndim != 3 or len(found) != 1 or found.shape[-1] != model.width:
        return fresh  # the shapes will be an error further on
    positions = found[0]
    prefix = positions[: 1 + distilled][: 1 + model.distilled]
    if len(prefix) < 1 + model.distilled:
        prefix = np.concatenate([prefix, start[1:2]])
    patches = _resampled(path, positions[1 + distilled :], model, grid)
    tensors["pos_embed"] = lambda: np.concatenate([prefix, patches])[None]
    return fresh


def _resampled(path, patches, model, grid):
    new = tuple(side // model.patch_size for side in model.image_size)
    root = math.isqrt(len(patches))
    fitting = [old for old in (grid, (root, root), new) if old and math.prod(old) == len(patches)]
    if not fitting or (fitting[0] != grid and len(set(fitting)) > 1):
        raise UserError(
            f"{path} has positions for {len(patches)} patches, in no known shape: give"
            " grid=(rows, columns) of them"
        )
    old = fitting[0]
    if old == new:
        return patches
    if len(set(fitting)) > 1:
        print(f"{path}: positions taken to be of {old} patches; if they are not, give grid=")
    return resample(patches.reshape(*old, -1), *new).reshape(math.prod(new), -1)


def _fill(path, model, tensors, fresh):
    own = variables(model)
    missing = [name for name in own if name not in tensors and name not in fresh]
    unexpected = [name for name in tensors if name not in own]
    misshapen = []
    for name in [name for name in own if name in tensors]:  # in one order in all processes
        found = tensors[name]()
        value = from_timm(name, found)
        if value.shape != tuple(own[name].shape):
            misshapen.append(f"{name} {value.shape} for {tuple(own[name].shape)}")
        elif not (missing or unexpected or misshapen):
            own[name].assign(value)
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    problems = {what: sorted(names) for what, names in problems.items() if names}
    if problems:
        lists = "; ".join(f"{what}: {_some(names)}" for what, names in problems.items())
        raise UserError(f"{path} does not fit the model: {lists}; is it another variant?")


def _some(names):
    names = [name if name.isprintable() and len(name) < 120 else repr(name[:80]) for name in names]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
