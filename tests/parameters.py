"""What the tests of weight files share: golden parameters, and loading models of their size."""

import numpy as np

import keras_deit as kd

# The fields of the golden models, whose images are 24 x 16 pixels.
TINY = {"patch_size": 8, "width": 12, "depth": 2, "heads": 3, "num_classes": 5}
PLAIN = "deit_tiny_patch16_224"
DISTILLED = "deit_tiny_distilled_patch16_224"


def parameters(golden):
    """A golden's parameters by timm's names, in PyTorch's layout."""
    return {
        key.removeprefix("weights/"): np.ascontiguousarray(value)
        for key, value in golden.items()
        if "weights/" in key
    }


def load(path, variant=DISTILLED, **fields):
    """A file's model of the golden size, but for ``fields``."""
    return kd.load(path, variant, **{"image_size": (24, 16), **TINY, **fields})


def assert_heads(model, golden):
    """That each head's logits of the golden's images are the golden's."""
    for logits, expected in zip(model.logits(golden["images"]), golden["logits"], strict=True):
        np.testing.assert_allclose(logits, expected, atol=2e-5)
