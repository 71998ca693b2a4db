"""What the tests of checkpoints share: golden parameters, and loading models of their size."""

import numpy as np

import keras_deit as kd

TINY = {"patch_size": 8, "width": 12, "depth": 2, "heads": 3, "num_classes": 5}
PLAIN, DISTILLED = "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"


def parameters(truth):
    return {
        key.removeprefix("weights/"): np.ascontiguousarray(value)
        for key, value in truth.items()
        if "weights/" in key
    }


def load(path, variant=DISTILLED, **fields):
    return kd.load(path, variant, **{"image_size": (24, 16), **TINY, **fields})


def assert_heads(model, truth):
    for head, expected in zip(model.logits(truth["images"]), truth["logits"], strict=True):
        np.testing.assert_allclose(head, expected, atol=2e-5)
