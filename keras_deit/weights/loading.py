"""From a name or a file to a model: strict, at any resolution."""

import dataclasses
import pathlib
import re

from keras_deit.configs.variants import VARIANTS
from keras_deit.models.factory import build
from keras_deit.models.regnet import RegNetY
from keras_deit.utils.errors import UserError, reason
from keras_deit.utils.files import sha256
from keras_deit.utils.validation import class_name_tuple, height_and_width
from keras_deit.weights.assigning import fit
from keras_deit.weights.descriptions import agree, read_timm_config
from keras_deit.weights.formats import read
from keras_deit.weights.hub import download

HEADS = {"head.weight", "head.fc.weight"}


def load(
    source,
    variant=None,
    *,
    new_heads=False,
    change_tokens=False,
    grid=None,
    cache_dir=None,
    **overrides,
):
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
        new_heads: makes the heads anew, for the same number of classes too.
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
        asked = {"change_tokens": change_tokens, "new_heads": new_heads}
        if checkpoint.model is not None and variant is None and not overrides and not new_heads:
            return checkpoint.model
        model, grid = _model(path, checkpoint, variant, overrides, grid)
        other = "num_classes" in overrides
        fresh = fit(path, model, checkpoint.tensors, grid=grid, other_heads=other, **asked)
        if checkpoint.config and not fresh & HEADS:
            model.class_names = class_name_tuple(
                checkpoint.config["class_names"], model.num_classes
            )
    except UserError:
        raise
    except Exception as error:  # what a file leads to that somebody made to do so
        raise UserError(f"{path} cannot be loaded: {reason(error)[:200]}") from error
    if fresh:
        print(f"{path}: newly initialised: {', '.join(sorted(fresh))}", flush=True)
    return model


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
    found = sha256(path)
    if not found.startswith(prefix):
        raise UserError(
            f"{path} is not the published file: its SHA-256 begins with {found[: len(prefix)]},"
            f" not {prefix}: download it again, or rename it if it is one of your own"
        )


def _model(path, checkpoint, variant, overrides, grid):
    """A model for the checkpoint, and the (rows, columns) of patches that its positions are of."""
    if checkpoint.config:
        try:
            agree(checkpoint.kind, checkpoint.config, checkpoint.tensors)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise UserError(f"{path} describes another model than it holds: {error}") from error
        grid = grid or _grid(**checkpoint.config)
    if variant is None and checkpoint.kind is None:
        timm_variant, fields = read_timm_config(path.with_name("config.json"))
        if timm_variant:
            return build(timm_variant, **{**fields, **overrides}), grid or _grid(**fields)
        what = "no DeiT or RegNetY" if checkpoint.model else "weights alone"
        raise UserError(
            f"{path} holds {what}: expected variant=<name>, one of {', '.join(VARIANTS)}"
        )
    if variant is not None:
        return build(variant, **overrides), grid or _grid(**dataclasses.asdict(VARIANTS[variant]))
    if checkpoint.kind is RegNetY:  # which takes any
        overrides = {name: value for name, value in overrides.items() if name != "image_size"}
    unknown = overrides.keys() - checkpoint.config.keys()
    if unknown:
        raise UserError(f"{path}: a model in it has no {min(unknown)!r}")
    return checkpoint.kind(**{**checkpoint.config, "class_names": None, **overrides}), grid


def _grid(image_size=None, patch_size=None, **_):
    """The (rows, columns) of patches of a DeiT with these fields, None of another model."""
    if image_size is None or patch_size is None:
        return None
    return tuple(side // patch_size for side in height_and_width(image_size))
