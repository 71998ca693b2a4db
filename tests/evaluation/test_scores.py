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
    np.testing.assert_allclose([of.top1 for of in scores.values()], expected)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)(labels, logits[1])
    np.testing.assert_allclose(scores["distillation"].loss, loss, rtol=1e-5)
    assert scores["class"].top5 == 1  # of five classes


def test_top_5_and_several_right_classes():
    logits = np.zeros((4, 7), "float32")
    logits[:, :6] = [6, 5, 4, 3, 2, 1]
    model = keras.Sequential([keras.Input((7,)), keras.layers.Activation("linear")])
    truth = np.eye(7)[[0, 4, 5, 6]]
    assert kd.evaluate(model, [(logits, truth)])["class"].top1 == 0.25
    assert kd.evaluate(model, [(logits, truth)])["class"].top5 == 0.5
    truth[1, 0] = 1  # a second right class
    truth[3] = 0  # no right class: not counted
    scores = kd.evaluate(model, [(logits, truth)])["class"]
    assert (scores.top1, scores.top5, scores.loss) == (2 / 3, 2 / 3, None)


def test_a_model_of_one_head_has_one_score(tiny):
    flat = keras.Sequential(
        [keras.Input((24, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
    )
    scores = kd.evaluate(flat, batches(tiny))
    assert scores["distillation"] is None
    assert scores["class"] == scores["fused"]
