"""Parameters into a model: strict, at any resolution."""

import math

import numpy as np

from keras_deit.utils import logs
from keras_deit.utils.errors import UserError
from keras_deit.weights.names import HEADS, POOLER, from_timm, variables
from keras_deit.weights.positions import resample

SHOWN = 8  # names of each sort in an error


def assign(path, model, tensors, *, other_heads, new_heads, change_tokens, grid, hint):
    """Assigns a file's parameters to a model's variables.

    Args:
        path: what errors call the file.
        model: an ``ImageClassifier``.
        tensors: dict of timm's name -> function that reads the array, in PyTorch's layout.
        other_heads: bool. Whether heads of another number of classes stay as initialized.
        new_heads: bool. Whether heads of the same number of classes do.
        change_tokens: bool. Whether the distillation token may be dropped or added.
        grid: (rows, columns) of the patches that the positions belong to, or None if unknown.
        hint: str. What the file is, for errors; or "".

    Returns:
        The names, by timm, of the variables that stay as initialized, a set.

    Raises:
        UserError: a parameter is missing, unexpected or of another shape.
    """
    tensors = dict(tensors)
    fresh = _drop_heads(path, model, tensors, other_heads, new_heads)
    if "pos_embed" in tensors and "pos_embed" in variables(model):
        fresh |= _match_tokens(path, model, tensors, change_tokens, grid)
    _assign_all(path, model, tensors, fresh, hint)
    return fresh & variables(model).keys()


def _drop_heads(path, model, tensors, other, new):
    """Removes heads that are not to be loaded from ``tensors``, and returns the names of the heads
    that the model gets instead."""
    heads = {name for name in tensors if name.startswith(HEADS)}
    counts = {tensors[name]().shape[0] for name in heads if name.endswith(".bias")}
    same = counts == {model.num_classes}

    if not new and (same or not other):
        if counts and not same:
            raise UserError(
                f"{path} has heads of {', '.join(map(str, sorted(counts)))} classes and the model"
                f" {model.num_classes}: give num_classes, another number for new heads"
            )
        return set()

    for name in [name for name in tensors if name.startswith((*HEADS, POOLER))]:
        del tensors[name]
    return {name for name in variables(model) if name.startswith(HEADS)}


def _match_tokens(path, model, tensors, change, grid):
    """Gives ``tensors`` the tokens and positions of the model, and returns the names of parameters
    that the file does not have."""
    distilled = "dist_token" in tensors
    if distilled != model.distilled and not change:
        has, lacks = ("has a", "has none") if distilled else ("has no", "has one")
        raise UserError(
            f"{path} {has} distillation token and the model {lacks}, so it would be another"
            " function than the one trained: choose the other variant, or change_tokens=True"
        )

    fresh = set()
    for name in ("dist_token", "head_dist.weight", "head_dist.bias"):
        if distilled and not model.distilled:
            tensors.pop(name, None)
        elif model.distilled and not distilled:
            fresh.add(name)

    embedding = tensors["pos_embed"]()
    initial = np.array(variables(model)["pos_embed"])[0]
    if embedding.ndim != 3 or len(embedding) != 1 or embedding.shape[-1] != initial.shape[-1]:
        return fresh  # the error about shapes comes with those of all other parameters

    # A new distillation token keeps its initial position.
    positions = embedding[0]
    prefix = positions[: 1 + distilled][: 1 + model.distilled]
    if len(prefix) < 1 + model.distilled:
        prefix = np.concatenate([prefix, initial[1:2]])
    patches = _resampled(path, positions[1 + distilled :], model, grid)
    tensors["pos_embed"] = lambda: np.concatenate([prefix, patches])[None]
    return fresh


def _resampled(path, patches, model, grid):
    """The positions of a file's patches, (count, width), at the model's resolution."""
    # The file has but the number of patches. A grid that the caller or the file gives is certain; a
    # square is likely, and so is the model's own grid.
    new = tuple(side // model.patch_size for side in model.image_size)
    root = math.isqrt(len(patches))
    candidates = [
        old for old in (grid, (root, root), new) if old and math.prod(old) == len(patches)
    ]
    ambiguous = len(set(candidates)) > 1
    if not candidates or (candidates[0] != grid and ambiguous):
        raise UserError(
            f"{path} has positions for {len(patches)} patches, in no known shape: give"
            " grid=(rows, columns) of them"
        )

    old = candidates[0]
    if old == new:
        return patches
    if ambiguous:
        logs.info(f"{path}: positions taken to be of {old} patches; if they are not, give grid=")
    return resample(patches.reshape(*old, -1), *new).reshape(math.prod(new), -1)


def _assign_all(path, model, tensors, fresh, hint):
    targets = variables(model)
    missing = [name for name in targets if name not in tensors and name not in fresh]
    unexpected = [name for name in tensors if name not in targets]
    misshapen = []

    # In the model's order, so that all processes of a run assign the variables in one order.
    for name in [name for name in targets if name in tensors]:
        value = from_timm(name, tensors[name]())
        if value.shape != tuple(targets[name].shape):
            misshapen.append(f"{name} {value.shape} for {tuple(targets[name].shape)}")
        elif not (missing or unexpected or misshapen):
            targets[name].assign(value)

    problems = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    lists = [f"{problem}: {_some(sorted(names))}" for problem, names in problems.items() if names]
    if lists:
        raise UserError(
            f"{path} does not fit the model: {'; '.join(lists)};"
            f" {hint or 'is it another variant?'}{_heads_missing(missing)}"
        )


def _heads_missing(missing):
    """What to do if a file lacks nothing but heads."""
    if missing and all(name.startswith(HEADS) for name in missing):
        return "; new_heads=True initializes heads that the file does not have"
    return ""


def _some(names):
    """The first names as text. A file's names may be long, or hold what a terminal acts on."""
    names = [name if name.isprintable() and len(name) < 120 else repr(name[:80]) for name in names]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
