"""The metadata of an exported file, so that it can be used without this package."""

import json

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
    # These have separate entries; that of the names also names unnamed classes.
    separate = ("class_names", "preprocessing")
    fields = {name: value for name, value in model.fields.items() if name not in separate}
    preprocessing = model.preprocessing

    return {
        "model": json.dumps({"class": type(model).__name__, **fields}),
        "class_names": json.dumps(model.class_labels, ensure_ascii=False),
        "heads": ", ".join(heads),
        "tokens": ", ".join(tokens),
        "image_size": f"{height}x{width}",
        "crop": f"{settings.crop:g}",
        "mean": ", ".join(map(str, preprocessing.mean)),
        "std": ", ".join(map(str, preprocessing.std)),
        "upright": str(preprocessing.upright).lower(),
        "input": "RGB, float32 (batch, height, width, 3): (pixel / 255 - mean) / std, of the center"
        " of an image, resized with antialiased bicubic until it covers image_size / crop",
        "logits": "the mean of the heads' logits",
    }
