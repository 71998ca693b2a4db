"""From a row of ``VARIANTS`` to a model, and from a saved class name to a class."""

import dataclasses

from keras_deit.configs import variants
from keras_deit.configs.variants import DeiTVariant, RegNetYVariant
from keras_deit.models.base import LORA
from keras_deit.models.deit import DeiT
from keras_deit.models.lora import merged_weights
from keras_deit.models.regnet import RegNetY
from keras_deit.utils.errors import UserError

# The model families: the row type in configs/variants.py -> the class that its fields construct.
FAMILIES = {DeiTVariant: DeiT, RegNetYVariant: RegNetY}

# Row fields that are not constructor arguments.
NOTES = ("params", "published")


def build(variant, **overrides):
    """A new model of a row of ``VARIANTS``, with random weights.

    Args:
        variant: str. A row's name.
        **overrides: fields of the row but its counts and scores: ``num_classes``, ``image_size``,
            ``drop_path`` ... A family for images of any size ignores ``image_size``.

    Returns:
        A built ``ImageClassifier``: a ``DeiT`` or, of the variants named so, a ``RegNetY``.

    Raises:
        UserError: unknown name or field; the message lists the known ones.

    Example:
        >>> import keras_deit as kd
        >>> model = kd.build("deit_digits_distilled", num_classes=5)
        >>> model.image_size, model.count_params()
        ((8, 8), 69834)
    """
    fields = _row_fields(variant)

    unknown = overrides.keys() - fields.keys()
    if unknown:
        raise UserError(f"{variant} has no {min(unknown)!r}: expected one of {', '.join(fields)}")

    family = family_of(variant)
    return family(**_constructor_fields(family, {**fields, **overrides}))


def family_of(variant):
    """The model class of a row of ``VARIANTS``. Raises UserError for an unknown name.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.models.factory import family_of
        >>> family_of("regnety_160") is kd.RegNetY
        True
    """
    return FAMILIES[type(variants.find(variant))]


def family_named(name):
    """The model class that files call ``name``, or None.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.models.factory import family_named
        >>> family_named("DeiT") is kd.DeiT
        True
    """
    return next((family for family in FAMILIES.values() if family.__name__ == name), None)


def family_names():
    """The families as text: "DeiT or RegNetY"."""
    return " or ".join(family.__name__ for family in FAMILIES.values())


def variant_fields(variant):
    """Constructor fields of a row of ``VARIANTS``, a dict. Raises UserError for an unknown name.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.models.factory import variant_fields
        >>> variant_fields("regnety_digits")["depths"]
        (1, 1)
    """
    return _constructor_fields(family_of(variant), _row_fields(variant))


def float32_copy(model):
    """A float32 copy of an ``ImageClassifier``, without optimizer and LoRA: what files hold.

    It is float32 whatever the global policy and the model's own are; LoRA is merged.

    Raises:
        UserError: the model is quantized.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.models.factory import float32_copy
        >>> model = kd.build("regnety_digits", num_classes=5)
        >>> float32_copy(model).num_classes
        5
    """
    weights = merged_weights(model)
    config = {name: value for name, value in model.get_config().items() if name != LORA}
    copy = type(model).from_config({**config, "dtype": "float32"})
    copy.set_weights([read() for _, read in weights])
    return copy


def _row_fields(variant):
    fields = dataclasses.asdict(variants.find(variant))
    return {name: value for name, value in fields.items() if name not in NOTES}


def _constructor_fields(family, fields):
    # image_size is a field of every row, and no argument of a family for images of any size.
    known = family.constructor_arguments()
    return {name: value for name, value in fields.items() if name in known}
