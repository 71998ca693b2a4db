import keras
import numpy as np

import keras_deit as kd


def batches(tiny):
    rng = np.random.default_rng(0)
    for size in (5, 3):
        yield (
            rng.normal(size=(size, 24, 16, 3)).astype("float32"),
            np.eye(5)[rng.integers(5, size=size)],
        )


def test_each_head_has_its_own_score(tiny):
    for weight in tiny.trainable_weights:
        weight.assign(np.random.default_rng(1).normal(size=weight.shape))
    images, labels = map(np.concatenate, zip(*batches(tiny), strict=True))
    logits = [np.array(head) for head in tiny.logits(images)]
    expected = [np.mean(x.argmax(1) == labels.argmax(1)) for x in (*logits, sum(logits))]
    scores = kd.evaluate(tiny, batches(tiny))
    assert list(scores) == ["class", "distillation", "fused"]
    np.testing.assert_allclose(list(scores.values()), expected)


def test_a_model_of_one_head_has_one_score(tiny):
    flat = keras.Sequential(
        [keras.Input((24, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
    )
    scores = kd.evaluate(flat, batches(tiny))
    assert scores["distillation"] is None
    assert scores["class"] == scores["fused"]
