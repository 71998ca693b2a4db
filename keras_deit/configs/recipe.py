"""What an experiment is: the fields of a row of ``RECIPES``, and how one is changed."""

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Literal

from keras_deit.utils.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """What a training run is; the values here are the paper's (Table 9). Learning rates but the
    peak, ``lr``, are taken as they are; shares and probabilities lie in [0, 1]."""

    note: str
    variant: str | None  # None is that of the file to start from
    dataset: str = "imagenet2012"
    classes: int = 0  # that the data set must have; 0 for any number
    # data
    train_split: str = "train"
    validation_split: str = "validation"
    train_fraction: float = 1.0  # of each class
    subset: int = 0  # which random fraction; not by the seed, so that a teacher has its student's
    passes: int = 1  # over the images in one epoch: more than one for a handful of images
    batch_size: int = 1024  # over all devices
    image_size: int = 224  # pixels, of both sides
    crop: Literal["resized", "padded"] = "resized"  # a random part, or shifted by up to pad pixels
    pad: int = 0
    flip: float = 0.5  # probability, of the mirror image
    rand_augment: bool = True  # rand-m9-mstd0.5-inc1
    erasing: float = 0.25  # probability
    repeats: int = 3  # views of an image in a batch
    mix_group: int = 64  # images that share a choice and a lambda; 0 for the whole batch
    mixup: float = 0.8  # alpha of the beta distribution, 0 for none
    cutmix: float = 1.0  # likewise; with both, each batch gets one of the two
    label_smoothing: float = 0.1
    eval_crop: float = 0.875  # of the image's side, in validation
    max_damaged: int = 100  # images of each part that may be left out before the run stops
    # model
    start: str | None = None  # weights to begin with: a published model or a file
    new_heads: bool = False  # whether heads are made anew for the same number of classes too
    trainable: Literal["all", "attention", "heads"] = "all"  # the others stay; see freezing.py
    mode: Literal["training", "evaluation"] = "training"  # the latter: no drop path, no dropout
    drop_path: float = 0.1  # of a DeiT
    dropout: float = 0.0
    # optimisation
    epochs: int = 300
    optimizer: Literal["adamw", "sgd", "lamb"] = "adamw"
    momentum: float = 0.9  # of SGD
    lr: float = 5e-4  # at 512 images; scaled with the batch
    schedule: Literal["step", "epoch"] = "step"  # the published code changes the rate by epochs
    min_lr: float = 1e-5
    warmup_lr: float = 1e-6
    warmup_epochs: float = 5
    weight_decay: float = 0.05
    no_decay: tuple[str, ...] = ("bias", "gamma", "beta", "pos_embed", "cls_token")  # variables
    clip_norm: float = 0.0  # largest global norm of the gradients, 0 for any
    accumulate: int = 1  # parts of a batch, one after another, where a device cannot hold it
    ema: float = 0.0  # decay of a moving average of the weights kept beside them, 0 for none
    # distillation
    teacher: str | None = None  # another recipe, a published model or a file
    distillation: Literal["none", "soft", "hard", "label"] = "none"  # label: two heads, no teacher
    token: bool = True  # a token of its own learns from the teacher, or else the class head does
    alpha: float = 0.5
    tau: float = 1.0
    reduction: Literal["batch", "elements"] = "batch"
    # running
    seed: int = 0
    run_eagerly: bool = False
    jit_compile: Literal["auto", "true", "false"] = "auto"  # XLA
    strategy: Literal["auto", "single", "mirrored", "multiworker", "tpu"] = "auto"  # strategies.py
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    save_minutes: float = 5.0  # between checkpoints; longer where they would cost over 5 %
    keep: int = 2  # checkpoints

    def __post_init__(self):
        _check(self)


POSITIVE = (
    *("epochs", "batch_size", "passes", "repeats", "image_size"),
    *("tau", "lr", "train_fraction", "eval_crop", "accumulate", "keep"),
)
SHARES = ("train_fraction", "alpha", "flip", "erasing", "eval_crop")
LIMITS = {int: 2**32, float: 1e30}  # what the generators and float32 can hold
RATES = ("label_smoothing", "drop_path", "dropout", "momentum", "ema")


def _check(recipe):
    for name in POSITIVE:
        if not getattr(recipe, name) > 0:
            raise UserError(f"{name}={getattr(recipe, name)}: expected a number above 0")
    for name in SHARES:
        if not 0 <= getattr(recipe, name) <= 1:
            raise UserError(f"{name}={getattr(recipe, name)}: expected a share between 0 and 1")
    for name in RATES:
        if not 0 <= getattr(recipe, name) < 1:
            raise UserError(f"{name}={getattr(recipe, name)}: expected a rate from 0, below 1")
    for name, kind in typing.get_type_hints(Recipe).items():
        value = getattr(recipe, name)
        if kind in LIMITS and not 0 <= value < LIMITS[kind]:
            raise UserError(f"{name}={value}: expected a number from 0, below {LIMITS[kind]:g}")
    if recipe.mix_group and recipe.batch_size % recipe.mix_group:
        raise UserError(
            f"batch_size={recipe.batch_size}: expected a multiple of mix_group={recipe.mix_group}"
        )
    if recipe.batch_size % recipe.accumulate:
        raise UserError(
            f"batch_size={recipe.batch_size}: expected a multiple of accumulate={recipe.accumulate}"
        )
    if (recipe.distillation in ("soft", "hard")) != (recipe.teacher is not None):
        raise UserError(
            f"teacher={recipe.teacher} with distillation={recipe.distillation}: expected a teacher"
            " with soft or hard, and none with none or label"
        )
    if recipe.start is None and recipe.variant is None:
        raise UserError("variant=none without start: expected a variant, or a file to start from")


def override(recipe, settings):
    """``recipe`` with fields replaced, each setting a "field=value" in the field's own type.

    A tuple is written with commas, None as "none", a truth value as true or false.

    Raises:
        UserError: unknown field, wrong type, or a value out of range; lists what is known.
    """
    kinds = typing.get_type_hints(Recipe)
    changes = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"setting {setting!r}: expected field=value")
        if name not in kinds:
            raise UserError(f"unknown field {name!r}: expected one of {', '.join(kinds)}")
        changes[name] = _parse(name, text, kinds[name])
    return dataclasses.replace(recipe, **changes)


def _parse(name, text, kind):
    if isinstance(kind, types.UnionType):  # "... | None"
        return None if text == "none" else text
    if typing.get_origin(kind) is tuple:
        return tuple(filter(None, text.split(",")))
    if typing.get_origin(kind) is Literal:
        choices = {str(choice): choice for choice in typing.get_args(kind)}
    else:
        choices = {"true": True, "false": False} if kind is bool else {}
    try:
        return choices[text] if choices else kind(text)
    except (KeyError, ValueError):
        expected = f"one of {', '.join(choices)}" if choices else f"{_NOUN[kind]}"
        raise UserError(f"{name}={text!r}: expected {expected}") from None


_NOUN = {int: "a whole number", float: "a number", str: "text"}
