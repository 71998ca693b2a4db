"""``kd.evaluate``: accuracies and loss of each head."""

import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_deit as kd
from keras_deit.evaluation import scores
from tests.conftest import ROOT, recipe
from tests.programs import engines

LOGITS = np.zeros((4, 7), "float32")
LOGITS[:, :6] = [6, 5, 4, 3, 2, 1]


@pytest.fixture(scope="module")
def identity():
    """A classifier whose images are its logits."""
    return keras.Sequential([keras.Input((7,)), keras.layers.Activation("linear")])


def batches():
    rng = np.random.default_rng(0)
    for size in (5, 3):
        images = rng.normal(size=(size, 24, 16, 3)).astype("float32")
        yield images, np.eye(5)[rng.integers(5, size=size)]


def test_each_head_has_its_own_scores(tiny):
    for weight in tiny.trainable_weights:
        weight.assign(np.random.default_rng(1).normal(size=weight.shape))
    images, labels = map(np.concatenate, zip(*batches(), strict=True))
    logits = [np.array(head) for head in tiny.logits(images)]
    logits.append(sum(logits))
    correct = [head.argmax(1) == labels.argmax(1) for head in logits]

    result = kd.evaluate(tiny, batches())
    assert list(result) == ["class", "distillation", "fused"]
    np.testing.assert_allclose([head.top1 for head in result.values()], np.mean(correct, axis=1))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)(labels, logits[1])
    np.testing.assert_allclose(result["distillation"].loss, loss, rtol=1e-5)
    assert result["class"].top5 == 1  # of five classes

    classes = np.unique(labels.argmax(1))
    per_class = [[head[labels[:, i] == 1].mean() for i in classes] for head in correct]
    np.testing.assert_allclose(
        [head.per_class for head in result.values()], np.mean(per_class, axis=1)
    )


def test_top5_counts_the_five_highest_logits(identity):
    labels = np.eye(7)[[0, 4, 5, 6]]
    score = kd.evaluate(identity, [(LOGITS, labels)])["class"]
    assert (score.top1, score.top5) == (0.25, 0.5)


def test_one_of_several_right_classes_is_enough(identity):
    labels = np.eye(7)[[0, 4, 5, 6]]
    labels[1, 0] = 1  # a second right class
    labels[3] = 0  # no right class: ignored
    score = kd.evaluate(identity, [(LOGITS, labels)])["class"]
    assert score == scores.Scores(top1=2 / 3, top5=2 / 3, per_class=None, loss=None)


def test_model_with_one_head_has_one_score():
    flat = keras.Sequential(
        [keras.Input((24, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
    )
    result = kd.evaluate(flat, batches())
    assert result["distillation"] is None
    assert result["class"] == result["fused"]


def test_images_without_any_label_are_an_error(identity):
    with pytest.raises(kd.UserError, match="none of 4 images has a label"):
        kd.evaluate(identity, [(LOGITS, np.zeros((4, 7)))])
    with pytest.raises(kd.UserError, match="no images to evaluate"):
        kd.evaluate(identity, [(LOGITS[:0], np.zeros((0, 7)))])


def test_function_is_called_before_each_batch(identity):
    calls = []
    labels = np.eye(7)[:4]
    kd.evaluate(identity, [(LOGITS, labels)] * 3, before_batch=lambda: calls.append(None))
    assert len(calls) == 3


def test_fraction_of_the_images_is_refused(identity, data_dir, monkeypatch):
    half = kd.data.evaluation(recipe("digits_none"), data_dir, process=(0, 2))
    with pytest.raises(kd.UserError, match="batches for 2 processes: expected batches for the 1"):
        kd.evaluate(identity, half)

    monkeypatch.setattr(scores.processes, "count", lambda: 2)
    with pytest.raises(kd.UserError, match=r"evaluate in 2 processes: expected batches of kd"):
        kd.evaluate(identity, [(LOGITS, np.eye(7)[:4])])


EVALUATE = """
import dataclasses, json, sys
import keras
import keras_deit as kd
from keras_deit.distribution import Strategy, processes
from tests.conftest import recipe

row = recipe("digits_none")
strategy = Strategy("multiworker")
process = processes.index(), processes.count()
with strategy.scope():
    keras.utils.set_random_seed(0)
    model = kd.build("deit_digits_distilled")
result = kd.evaluate(model, kd.data.evaluation(row, sys.argv[1], process=process))
print(json.dumps([process[1], {head: dataclasses.asdict(x) for head, x in result.items()}]))
"""


@pytest.mark.slow
def test_two_processes_score_all_images(data_dir):
    keras.utils.set_random_seed(0)
    model = kd.build("deit_digits_distilled")
    expected = kd.evaluate(model, kd.data.evaluation(recipe("digits_none"), data_dir))

    addresses = [f"localhost:{port}" for port in engines.free_ports(2)]
    command = [sys.executable, "-c", EVALUATE, str(data_dir)]
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=engines.environment("tensorflow", 1, addresses, index),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for process in started:
        output, errors = process.communicate(timeout=120)
        assert not process.returncode, errors[-2000:]
        count, result = json.loads(output.splitlines()[-1])
        assert count == 2
        for head, score in expected.items():
            assert result[head] == pytest.approx(dataclasses.asdict(score), rel=1e-6)


def test_table_has_a_row_for_each_head():
    result = {
        "class": scores.Scores(0.5, 0.75, 0.25, 1.5),
        "distillation": None,
        "fused": scores.Scores(0.5, 0.75, None, None),
    }
    assert scores.table(result).splitlines() == [
        "| head | top-1 | top-5 | per class | loss |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| class | 50.000% | 75.000% | 25.000% | 1.5000 |",
        "| fused | 50.000% | 75.000% | - | - |",
    ]
