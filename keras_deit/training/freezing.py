"""Which of a model's variables training moves: all of them, those of attention, the heads alone."""

import keras

from keras_deit.models.deit import DeiT
from keras_deit.utils.errors import UserError
from keras_deit.weights.names import variables

HEADS = ("head.", "head_dist.")


def freeze(model, trainable):
    """Fixes all variables of a new ``DeiT`` or ``RegNetY`` but those of ``trainable``.

    Args:
        model: not compiled yet.
        trainable: "all"; "attention", those of the attention layers, the position embedding and the
            heads, as with the published code's ``--attn-only`` (Touvron et al., 2022, arXiv
            2203.09795), which has one head; or "heads".

    Raises:
        UserError: there is no attention in a RegNetY.
    """
    if trainable == "attention" and not isinstance(model, DeiT):
        raise UserError(f"{type(model).__name__} has no attention: expected trainable=all or heads")
    if trainable == "all":
        return
    for name, variable in variables(model).items():
        attention = ".attn." in name or name == "pos_embed"
        moved = name.startswith(HEADS) or (attention and trainable == "attention")
        variable.trainable = variable.trainable and moved
    for layer in model._flatten_layers():  # fixed statistics are not gathered anew either
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
