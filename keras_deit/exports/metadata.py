"""The metadata of an exported file, so that it can be used without this package."""

import json

from keras_deit.configs.preprocessing import MEAN, STD
from keras_deit.evaluation.scores import HEADS


def file_metadata(model, settings):
    """Describes the outputs, and how an image becomes an input.

    Args:
        model: an ``ImageClassifier``.
        settings: the file's ``ExportSettings``.

    Returns:
        A dict of str, which all formats can hold; "model" and "class_names" are JSON.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.exports.metadata import file_metadata
        >>> from keras_deit.exports.settings import ExportSettings
        >>> model = kd.DeiT(16, patch_size=8, width=12, depth=1, heads=3, num_classes=5)
        >>> metadata = file_metadata(model, ExportSettings((16, 16)))
        >>> metadata["heads"], metadata["image_size"]
        ('class, distillation', '16x16')
    """
    height, width = settings.image_size
    heads = HEADS[: 1 + model.distilled]
    # A convnet has no tokens.
    tokens = (*heads, "patches") if model.has_attention else ()
    # The names are a separate entry, which also names unnamed classes.
    fields = {name: value for name, value in model.fields.items() if name != "class_names"}

    return {
        "model": json.dumps({"class": type(model).__name__, **fields}),
        "class_names": json.dumps(model.class_labels, ensure_ascii=False),
        "heads": ", ".join(heads),
        "tokens": ", ".join(tokens),
        "image_size": f"{height}x{width}",
        "crop": f"{settings.crop:g}",
        "mean": ", ".join(map(str, MEAN)),
        "std": ", ".join(map(str, STD)),
        "input": "RGB, float32 (batch, height, width, 3): (pixel / 255 - mean) / std, of the center"
        " of an image, resized with antialiased bicubic until it covers image_size / crop",
        "logits": "the mean of the heads' logits",
    }
