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
from keras_deit.errors import UserError, pair
from keras_deit.factory import build
from keras_deit.model import DeiT
from keras_deit.teachers import RegNetY
from keras_deit.variants import VARIANTS

SHOWN = 8  # names of each sort in an error


def load(source, variant=None, *, change_tokens=False, grid=None, cache_dir=None, **overrides):
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
        grid: (rows, columns) of the patches that a file's positions are of, where neither the file
            nor the row knows and they are in no square.
        cache_dir: where downloads are kept; None is the hub library's own folder.
        **overrides: any field of the row: ``image_size``, ``drop_path``, ``num_classes``. Another
            number of classes than the file's makes new heads, and says so.

    Returns:
        A ``DeiT`` or ``RegNetY``; of a ``.keras`` file, whatever Keras model is in it.

    Raises:
        UserError: the file is missing, damaged or unsafe, or does not fit: names every parameter
            that is missing, unexpected or of another shape.
    """
    try:
        path, variant = _locate(str(source), variant, cache_dir)
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}") from error
    try:
        checkpoint = read(path, variant, overrides)
        if checkpoint.model is not None and variant is None and not overrides:
            return checkpoint.model
        return _filled(path, checkpoint, variant, overrides, change_tokens, grid)
    except UserError:
        raise
    except Exception as error:  # what a file leads to that somebody made to do so
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be loaded: {reason[:200]}") from error


def _filled(path, checkpoint, variant, overrides, change_tokens, grid):
    tensors = dict(checkpoint.tensors)
    if checkpoint.config:
        try:
            _agree(checkpoint.kind, checkpoint.config, tensors)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise UserError(f"{path} describes another model than it holds: {error}") from error
    model = _model(path, checkpoint, variant, overrides)
    fresh = _heads(path, model, tensors, "num_classes" in overrides)
    if isinstance(model, DeiT) and "pos_embed" in tensors:
        grid = grid or _known_grid(checkpoint, variant)
        fresh |= _tokens(path, model, tensors, change_tokens, grid)
    _fill(path, model, tensors, fresh)
    fresh &= variables(model).keys()
    if fresh:
        print(f"{path}: newly initialised: {', '.join(sorted(fresh))}", flush=True)
    return model


def _agree(kind, fields, tensors):
    """Raises ValueError where a file's description is not of its own parameters, which may then ask
    for any amount of memory."""
    shapes = {name: tensors[name]().shape for name in tensors if name in SHAPES[kind]}
    expected = SHAPES[kind]
    for name, of in expected.items():
        if shapes.get(name) != tuple(of(fields)):
            raise ValueError(f"its description says {tuple(of(fields))} of {name}")
    blocks = {name.split(".attn")[0] for name in tensors if ".attn.qkv.w" in name}
    if kind is DeiT and len(blocks) != fields["depth"]:
        raise ValueError(f"its description says {fields['depth']} blocks and it has {len(blocks)}")


def _patches(fields):
    (height, width), patch = pair(fields["image_size"]), fields["patch_size"]
    return (height // patch) * (width // patch)


# The shapes of a few parameters, which a model's fields fix.
SHAPES = {
    DeiT: {
        "pos_embed": lambda of: (1, _patches(of) + 1 + of["distilled"], of["width"]),
        "patch_embed.proj.weight": lambda of: (of["width"], 3, of["patch_size"], of["patch_size"]),
        "blocks.0.mlp.fc1.bias": lambda of: (int(of["mlp_ratio"] * of["width"]),),
        "head.bias": lambda of: (of["num_classes"],),
    },
    RegNetY: {
        "stem.conv.weight": lambda of: (of["stem"], 3, 3, 3),
        "head.fc.weight": lambda of: (of["num_classes"], of["widths"][-1]),
    },
}


def _locate(source, variant, cache_dir):
    if source in VARIANTS:
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
    if checkpoint.kind is RegNetY:  # which takes any
        overrides = {name: value for name, value in overrides.items() if name != "image_size"}
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
    count = min(counts)
    if not asked:
        raise UserError(
            f"{path} has heads of {count} classes and the model {model.num_classes}: give"
            f" num_classes={count} to load them, or another number for new heads; or is it another"
            " variant?"
        )
    for name in names:
        del tensors[name]
    return names


def _known_grid(checkpoint, variant):
    """The (rows, columns) of patches that a file says, or else its row."""
    if checkpoint.config:
        (height, width), patch = checkpoint.config["image_size"], checkpoint.config["patch_size"]
    else:
        height = width = VARIANTS[variant].image_size
        patch = VARIANTS[variant].patch_size
    return height // patch, width // patch


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
    for old in (grid, (root, root), new):
        if math.prod(old) == len(patches):
            break
    else:
        raise UserError(
            f"{path} has positions for {len(patches)} patches, in no square: give grid=(rows,"
            " columns) of them"
        )
    if old == new:
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
    names = [name if name.isprintable() and len(name) < 120 else repr(name[:80]) for name in names]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
