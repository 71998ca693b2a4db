"""From a row of ``VARIANTS`` to a model."""

import dataclasses

from keras_deit.configs.variants import VARIANTS, RegNetYVariant
from keras_deit.models.deit import DeiT
from keras_deit.models.regnet import RegNetY
from keras_deit.utils.errors import UserError


def build(variant, **overrides):
    """A new, untrained model of a row of ``VARIANTS``.

    Args:
        variant: a row's name.
        **overrides: fields of the row (``num_classes``, ``image_size`` ...) but its counts and
            scores.

    Returns:
        A built ``DeiT`` or ``RegNetY``.

    Raises:
        UserError: unknown name or field; lists what is known.
    """
    if variant not in VARIANTS:
        raise UserError(f"unknown model {variant!r}: expected one of {', '.join(VARIANTS)}")
    fields = dataclasses.asdict(VARIANTS[variant])
    del fields["params"], fields["published"]
    unknown = overrides.keys() - fields.keys()
    if unknown:
        raise UserError(f"{variant} has no {min(unknown)!r}: expected one of {', '.join(fields)}")
    fields.update(overrides)
    if not isinstance(VARIANTS[variant], RegNetYVariant):
        return DeiT(**fields)
    del fields["image_size"]  # a convnet takes any
    return RegNetY(**fields)


def float32_copy(model):
    """A float32 copy of a ``DeiT`` or ``RegNetY`` without optimizer: what files hold."""
    config = {name: value for name, value in model.get_config().items() if name != "dtype"}
    copy = type(model).from_config(config)
    copy.set_weights(model.get_weights())
    return copy
