"""From a name or a file to a model: strict, at any resolution."""

import hashlib
import math
import pathlib
import re

import numpy as np

from keras_deit.checkpoints.formats import read
from keras_deit.checkpoints.hub import download
from keras_deit.checkpoints.names import from_timm, variables
from keras_deit.checkpoints.positions import resample
from keras_deit.errors import UserError
from keras_deit.factory import build
from keras_deit.model import DeiT
from keras_deit.variants import VARIANTS

SHOWN = 8  # names of each sort in an error


def load(source, variant=None, *, change_tokens=False, cache_dir=None, **overrides):
    """The model of a published name or of a file.

    Loading is strict: every parameter of the file is used once and every variable of the model is
    filled. The position embedding of another resolution is resampled as in the official code.

    Args:
        source: a published name (a row of ``VARIANTS``), downloaded once from the Hugging Face
            hub; or a file, of whatever name: safetensors or a PyTorch ``.pth`` in timm's (and the
            official) names, safetensors in transformers' names, ``.keras`` or ``.weights.h5``; or
            a folder with ``model.safetensors`` in it. A ``.pth`` needs PyTorch.
        variant: the row a file's weights belong to; not needed where the file says so itself
            (``.keras``, ``save_pretrained``, an official file under its own name).
        change_tokens: allows distilled weights in a model without a distillation token, which
            then has the class head alone, and the reverse, where that token and head are new.
        cache_dir: where downloads are kept; None is the hub library's own folder.
        **overrides: any field of the row: ``image_size``, ``drop_path``, ``num_classes``. Another
            number of classes than the file's makes new heads, and says so.

    Returns:
        A ``DeiT`` or ``RegNetY``; of a ``.keras`` file, whatever Keras model is in it.

    Raises:
        UserError: the file is missing, damaged or unsafe, or does not fit: names every parameter
            that is missing, unexpected or of another shape.
    """
    path, variant = _locate(source, variant, cache_dir)
    checkpoint = read(path, variant, overrides)
    if checkpoint.model is not None and variant is None and not overrides:
        return checkpoint.model
    model = _model(path, checkpoint, variant, overrides)
    tensors = dict(checkpoint.tensors)
    fresh = _heads(path, model, tensors, "num_classes" in overrides)
    if isinstance(model, DeiT) and "pos_embed" in tensors:
        fresh |= _tokens(path, model, tensors, change_tokens, _sides(checkpoint, variant))
    _fill(path, model, tensors, fresh)
    if fresh:
        print(f"{path}: newly initialised: {', '.join(sorted(fresh))}", flush=True)
    return model


def _locate(source, variant, cache_dir):
    if str(source) in VARIANTS:
        if VARIANTS[source].published is None:
            raise UserError(f"{source} has no published weights: build it, or give a file")
        return download(source, cache_dir), variant or source
    path = pathlib.Path(source)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        known = ", ".join(name for name, row in VARIANTS.items() if row.published)
        raise UserError(f"no file {path}: expected a checkpoint file or one of {known}")
    official = re.fullmatch(r"(\w+)-([0-9a-f]{8})\.pth", path.name)
    if official and getattr(VARIANTS.get(official[1]), "published", None):
        _verify(path, VARIANTS[official[1]].published.sha256)
        variant = variant or official[1]
    return path, variant


def _verify(path, prefix):
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(prefix):
        raise UserError(
            f"{path} is not the published file: its SHA-256 begins with {found[: len(prefix)]},"
            f" not {prefix}: download it again, or rename it if it is one of your own"
        )


def _model(path, checkpoint, variant, overrides):
    if variant is not None:
        return build(variant, **overrides)
    if checkpoint.kind is None:
        what = "no DeiT or RegNetY" if checkpoint.model else "weights alone"
        raise UserError(
            f"{path} holds {what}: expected variant=<name>, one of {', '.join(VARIANTS)}"
        )
    unknown = overrides.keys() - checkpoint.config.keys()
    if unknown:
        raise UserError(f"{path}: a model in it has no {min(unknown)!r}")
    try:
        return checkpoint.kind(**{**checkpoint.config, **overrides})
    except TypeError as error:
        raise UserError(f"{path} does not describe a model of ours: {error}") from error


def _heads(path, model, tensors, asked):
    """Leaves heads of other classes out of ``tensors``; the names of the variables that are new."""
    names = {name for name in tensors if name.split(".")[0] in ("head", "head_dist")}
    counts = {tensors[name]().shape[0] for name in names if name.endswith(".bias")}
    if not counts or counts == {model.num_classes}:
        return set()
    count = "/".join(map(str, sorted(counts)))
    if not asked:
        raise UserError(
            f"{path} has heads of {count} classes and the model {model.num_classes}: give"
            f" num_classes={count} to load them, or another number for new heads"
        )
    for name in names:
        del tensors[name]
    return names


def _sides(checkpoint, variant):
    """The (rows, columns) of patches that a file or its row is known by, if it is."""
    if checkpoint.config:
        size, patch = checkpoint.config["image_size"], checkpoint.config["patch_size"]
        height, width = size
    else:
        height = width = VARIANTS[variant].image_size
        patch = VARIANTS[variant].patch_size
    return height // patch, width // patch


def _tokens(path, model, tensors, change, sides):
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
    positions, start = tensors["pos_embed"]()[0], np.array(own["pos_embed"])[0]
    prefix = positions[: 1 + distilled][: 1 + model.distilled]
    if len(prefix) < 1 + model.distilled:
        prefix = np.concatenate([prefix, start[1:2]])
    grid = _grid(path, positions[1 + distilled :], model, sides)
    tensors["pos_embed"] = lambda: np.concatenate([prefix, grid])[None]
    return fresh


def _grid(path, patches, model, sides):
    new = tuple(side // model.patch_size for side in model.image_size)
    root = math.isqrt(len(patches))
    for old in (sides, (root, root), new):
        if math.prod(old) == len(patches):
            break
    else:
        raise UserError(f"{path} has positions for {len(patches)} patches, in no square")
    if old == new or patches.shape[-1] != model.width:  # the latter is an error further on
        return patches
    return resample(patches.reshape(*old, -1), *new).reshape(math.prod(new), -1)


def _fill(path, model, tensors, fresh):
    own = variables(model)
    missing = [name for name in own if name not in tensors and name not in fresh]
    unexpected = [name for name in tensors if name not in own]
    misshapen = []
    for name in own.keys() & tensors.keys():
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
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
