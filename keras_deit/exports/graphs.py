"""A model as a pure function of its variables' values and images, for TensorFlow to trace."""

import keras


def variable_values(model):
    """The values of a model's variables, as a list of arrays."""
    return [keras.ops.convert_to_numpy(variable) for variable in model.variables]


def named_outputs(model, values, images, attention=False):
    """A model's outputs by name.

    Args:
        model: a float32 ``ImageClassifier``.
        values: list of tensors, the values of its variables.
        images: float32 (batch, height, width, 3), normalized.
        attention: bool. Whether to add the attention of a ``DeiT``. Default False.

    Returns:
        A dict of tensors: "logits", the mean of the heads' logits; "class_head" and, of a distilled
        model, "distillation_head", their logits, all (batch, num_classes); and "attention" (batch,
        depth, heads, tokens, tokens).
    """
    with keras.StatelessScope(state_mapping=list(zip(model.variables, values, strict=True))):
        heads = model.logits(images)
        outputs = {"logits": sum(heads) / len(heads), "class_head": heads[0]}
        if len(heads) > 1:
            outputs["distillation_head"] = heads[1]
        if attention:
            outputs["attention"] = model.attention_maps(images)
    return outputs
