"""``Recipe``, the settings of a training run, and ``override``, which changes them from text."""

import dataclasses
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from keras_deit.utils.errors import UserError
from keras_deit.utils.paths import expand_home


@dataclass(frozen=True)
class Bounds:
    """The range of a number.

    Args:
        expected: str. The range in words, for errors.
        allow: function from a number to a bool. Whether it is in the range.
    """

    expected: str
    allow: Callable[[float], bool]


# The types of the numbers in a recipe. The upper limits are what random generators and float32 can
# hold. No comparison with nan is true, so that no type allows it.
PositiveInt = Annotated[int, Bounds("an integer in [1, 2**32)", lambda n: 1 <= n < 2**32)]
NonNegativeInt = Annotated[int, Bounds("an integer in [0, 2**32)", lambda n: 0 <= n < 2**32)]
PositiveFloat = Annotated[float, Bounds("a number above 0, below 1e30", lambda x: 0 < x < 1e30)]
NonNegativeFloat = Annotated[float, Bounds("a number in [0, 1e30)", lambda x: 0 <= x < 1e30)]
Fraction = Annotated[float, Bounds("a fraction in [0, 1]", lambda x: 0 <= x <= 1)]
PositiveFraction = Annotated[float, Bounds("a fraction in (0, 1]", lambda x: 0 < x <= 1)]
Rate = Annotated[float, Bounds("a fraction in [0, 1)", lambda x: 0 <= x < 1)]


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run. Defaults are the paper's for ImageNet (its Table 9).

    A field's comment gives its meaning and unit, and its type the values it may take. A new field
    is one line here.

    Raises:
        UserError: a number is out of its range, or two fields contradict each other.

    Example:
        >>> import keras_deit as kd
        >>> recipe = kd.Recipe(note="Half as long.", variant="deit_tiny_patch16_224", epochs=150)
        >>> recipe.epochs, recipe.batch_size
        (150, 1024)
    """

    note: str  # what the run is, its expected score and source, and the command that starts it
    variant: str | None  # key of VARIANTS; None: that of the file in start

    # data
    dataset: str = "imagenet2012"  # TFDS name or folder:<path>
    classes: NonNegativeInt = 0  # number that the dataset must have; 0: any
    train_split: str = "train"
    validation_split: str = "validation"
    train_fraction: PositiveFraction = 1.0  # of each class' training images
    subset: NonNegativeInt = 0  # which random fraction; not by seed: teacher and student share it
    passes: PositiveInt = 1  # over the images in one epoch; above 1 for tiny datasets
    batch_size: PositiveInt = 1024  # global, over all devices
    image_size: PositiveInt = 224  # height and width, in pixels
    crop: Literal["resized", "padded"] = "resized"  # random resized crop, or a shift
    pad: NonNegativeInt = 0  # largest shift of crop=padded, in pixels
    flip: Fraction = 0.5  # probability of a horizontal flip
    rand_augment: bool = True  # RandAugment, rand-m9-mstd0.5-inc1
    erasing: Fraction = 0.25  # probability of random erasing
    repeats: PositiveInt = 3  # repeated augmentation: views of an image in a batch
    target_epochs: NonNegativeInt = 0  # epochs of views, seen in turn; 0: every epoch has its own
    data_seed: NonNegativeInt | None = None  # of the order and the views; None: seed
    mix_group: NonNegativeInt = 64  # images with one choice and one lambda; 0: the whole batch
    mixup: NonNegativeFloat = 0.8  # alpha of lambda's beta distribution; 0: no mixup
    cutmix: NonNegativeFloat = 1.0  # likewise; if both are on, each group gets one of them
    label_smoothing: Rate = 0.1
    eval_crop: PositiveFraction = 0.875  # center-crop ratio, in validation
    upright: bool = False  # whether images are turned as their EXIF orientation says
    max_damaged: NonNegativeInt = 100  # unreadable images per split that are skipped; more: stop

    # model
    start: str | None = None  # initial weights: a published model or a file; None: random
    new_heads: bool = False  # whether to re-initialize heads of the right number of classes too
    trainable: Literal["all", "attention", "heads"] = "all"  # the other weights are frozen
    drop_path: Rate = 0.1  # stochastic depth of the last block of a DeiT
    dropout: Rate = 0.0  # of a DeiT

    # optimization
    epochs: PositiveInt = 300
    optimizer: Literal["adamw", "sgd", "lamb"] = "adamw"
    momentum: Rate = 0.9  # of SGD
    lr: PositiveFloat = 5e-4  # peak learning rate per 512 images; scaled with batch_size
    schedule: Literal["step", "epoch"] = "step"  # the published code changes lr by epochs
    min_lr: NonNegativeFloat = 1e-5  # at the end; not scaled
    warmup_lr: NonNegativeFloat = 1e-6  # at the start; not scaled
    warmup_epochs: NonNegativeFloat = 5
    weight_decay: NonNegativeFloat = 0.05
    no_decay: tuple[str, ...] = ("bias", "gamma", "beta", "pos_embed", "cls_token")  # variables
    clip_norm: NonNegativeFloat = 0.0  # largest global norm of the gradients; 0: no clipping
    accumulate: PositiveInt = 1  # gradient accumulation: micro-batches per batch
    recompute: bool = False  # activations, for the gradients: less memory, a fifth more time
    ema: Rate = 0.0  # decay of a moving average of the weights, saved beside them; 0: none

    # distillation
    # Other recipes, published models or files. Several are averaged (soft) or vote (hard).
    teacher: tuple[str, ...] = ()
    targets: str | None = None  # folder of what a teacher gave, from kd.label; no teacher is loaded
    distillation: Literal["none", "soft", "hard", "label"] = "none"  # label: two heads, no teacher
    token: bool = True  # whether a distillation token learns from the teacher, or the class head
    alpha: Fraction = 0.5  # weight of the teacher's loss; the label's has the rest
    tau: PositiveFloat = 1.0  # temperature of soft distillation
    reduction: Literal["batch", "elements"] = "batch"  # of the soft loss; see Distillation

    # running
    seed: NonNegativeInt = 0
    run_eagerly: bool = False
    jit_compile: Literal["auto", "true", "false"] = "auto"  # XLA
    strategy: Literal["auto", "single", "mirrored", "multiworker", "tpu"] = "auto"
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    save_minutes: NonNegativeFloat = 5.0  # between checkpoints; longer if they would cost over 5 %
    keep: PositiveInt = 2  # newest checkpoints; older ones are deleted

    def __post_init__(self):
        # One teacher needs no tuple. A str would be taken for one of its letters.
        if isinstance(self.teacher, str):
            object.__setattr__(self, "teacher", (self.teacher,))

        for field in ("dataset", "start", "teacher", "targets"):  # which may be files and folders
            object.__setattr__(self, field, expand_home(getattr(self, field)))
        _check_ranges(self)
        _check_combinations(self)


def override(recipe, settings):
    """A recipe with some fields replaced.

    Args:
        recipe: a ``Recipe``; it stays as it is.
        settings: iterable of str, "field=value". The value is written as its field's type: tuples
            with commas, None and the empty tuple as "none", booleans as true or false.

    Returns:
        A new ``Recipe``.

    Raises:
        UserError: an unknown field, a value of the wrong type or out of range, or a contradiction
            between fields. The message lists what is possible.

    Example:
        >>> import keras_deit as kd
        >>> recipe = kd.override(kd.RECIPES["deit_tiny"], ["lr=1e-3", "no_decay=bias,gamma"])
        >>> recipe.lr, recipe.no_decay
        (0.001, ('bias', 'gamma'))
    """
    kinds = _field_types()
    changes = {}

    for setting in settings:
        field, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"setting {setting!r}: expected field=value")
        if field not in kinds:
            raise UserError(f"unknown field {field!r}: expected one of {', '.join(kinds)}")
        changes[field] = _parse(field, text, kinds[field])

    return dataclasses.replace(recipe, **changes)


def _field_types():
    """The type of every field, by name. Those of numbers are ``Annotated`` with ``Bounds``."""
    return typing.get_type_hints(Recipe, include_extras=True)


def _parse(field, text, kind):
    """The value of type ``kind`` that ``text`` stands for."""
    kind, is_optional = _without_none(kind)
    if is_optional and text == "none":
        return None

    if typing.get_origin(kind) is Annotated:
        number, bounds = typing.get_args(kind)
        try:
            return number(text)
        except ValueError:
            raise UserError(f"{field}={text!r}: expected {bounds.expected}") from None

    if typing.get_origin(kind) is Literal or kind is bool:
        choices = {str(value): value for value in typing.get_args(kind)}
        if kind is bool:
            choices = {"true": True, "false": False}
        if text not in choices:
            raise UserError(f"{field}={text!r}: expected one of {', '.join(choices)}")
        return choices[text]

    if typing.get_origin(kind) is tuple:
        return () if text == "none" else tuple(filter(None, text.split(",")))
    return text


def _without_none(kind):
    """(X, True) of the type ``X | None``, and (X, False) of any other X."""
    kinds = typing.get_args(kind)
    return (kinds[0], True) if type(None) in kinds else (kind, False)


def _check_ranges(recipe):
    for field, kind in _field_types().items():
        kind, _ = _without_none(kind)
        value = getattr(recipe, field)
        if typing.get_origin(kind) is Annotated and value is not None:
            _, bounds = typing.get_args(kind)
            if not bounds.allow(value):
                raise UserError(f"{field}={value}: expected {bounds.expected}")


def _check_combinations(recipe):
    for divisor in ("mix_group", "accumulate"):
        size = getattr(recipe, divisor)
        if size and recipe.batch_size % size:
            raise UserError(
                f"batch_size={recipe.batch_size}: expected a multiple of {divisor}={size}"
            )

    has_teacher = bool(recipe.teacher or recipe.targets)
    if has_teacher != (recipe.distillation in ("soft", "hard")):
        names = ",".join(recipe.teacher) or "none"
        targets = f" and targets={recipe.targets}" * bool(recipe.targets)
        raise UserError(
            f"teacher={names}{targets} with distillation={recipe.distillation}: expected a teacher"
            " or targets with soft or hard, and none with none or label"
        )

    if recipe.start is None and recipe.variant is None:
        raise UserError("variant=none without start: expected a variant, or a file to start from")
