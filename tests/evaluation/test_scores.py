"""``kd.evaluate``: accuracies and loss of each head."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deit as kd
from keras_deit.data.batches import Batches, BatchInfo
from keras_deit.evaluation import scores
from tests.conftest import recipe
from tests.programs.clusters import environments, run_together

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
    labels = np.zeros((4, 7))
    with pytest.raises(kd.UserError, match="none of 4 images has a label"):
        kd.evaluate(identity, [(LOGITS, labels)])
    with pytest.raises(kd.UserError, match="a weight above 0"):
        kd.evaluate(identity, (LOGITS, labels + 1, np.zeros(4)))


@pytest.mark.parametrize(
    "empty",
    [
        [],
        [(LOGITS[:0], np.zeros((0, 7)))],
        (LOGITS[:0], np.zeros((0, 7))),
        (LOGITS[:0], np.zeros(0, int)),
        tf.data.Dataset.from_tensor_slices((LOGITS[:0], np.zeros((0, 7)))).batch(4),
    ],
    ids=["list", "batch", "arrays", "sparse", "dataset"],
)
def test_no_images_are_an_error(identity, empty):
    with pytest.raises(kd.UserError, match="no images to evaluate: expected at least one"):
        kd.evaluate(identity, empty)


class Sequence(keras.utils.PyDataset):
    """Arrays in batches of three; ``[i]`` of any ``i`` is a batch, if an empty one."""

    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return -(-len(self.arrays[0]) // 3)

    def __getitem__(self, index):
        return tuple(array[3 * index : 3 * index + 3] for array in self.arrays)


@pytest.mark.slow
@pytest.mark.parametrize("sparse", [np.arange(7, dtype="int32") % 5, np.arange(7.0)[:, None] % 5])
@pytest.mark.parametrize("weights", [None, np.array([1, 0, 2, 1, 0.5, 3, 0])])
def test_scores_are_those_of_keras_for_any_labels_weights_and_container(sparse, weights):
    images = np.random.default_rng(0).normal(size=(7, 5)).astype("float32")
    model = keras.Sequential([keras.Input((5,)), keras.layers.Activation("linear")])
    model.compile(
        loss=kd.loss(),
        weighted_metrics=["accuracy", keras.metrics.TopKCategoricalAccuracy(5)],
    )
    one_hot = np.eye(5)[sparse.astype(int).ravel()]
    loss, top1, top5 = model.evaluate(images, one_hot, 7, sample_weight=weights, verbose=0)

    for labels in (sparse, one_hot):
        arrays = (images, labels) if weights is None else (images, labels, weights)
        dataset = tf.data.Dataset.from_tensor_slices(arrays).batch(3)
        for batches in (arrays, list(arrays), [arrays], dataset, Sequence(*arrays)):
            score = kd.evaluate(model, batches)["class"]
            np.testing.assert_allclose((score.top1, score.top5), (top1, top5), rtol=1e-6)
            np.testing.assert_allclose(score.loss, loss, rtol=1e-5)


def test_images_of_weight_zero_do_not_count(identity):
    labels = np.array([0, 4, 5, 6])
    few = kd.evaluate(identity, (LOGITS[:3], labels[:3]))
    assert kd.evaluate(identity, (LOGITS, labels, np.array([2, 2, 2, 0]))) == few


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((LOGITS, np.array([0, 1, 2, 7])), "label 7: expected 0 to 6"),
        ((LOGITS, np.array([0, 1, 2, -1])), "label -1: expected 0 to 6"),
        ((LOGITS, np.array([0, 1, 2, 0.5])), r"labels \(4,\) of 4 images: expected \(4, 7\)"),
        ((LOGITS, np.array(list("abcd"))), r"labels \(4,\) of 4 images"),
        ((LOGITS, np.zeros((4, 6))), r"labels \(4, 6\) of 4 images: expected \(4, 7\), as the"),
        ((LOGITS, np.zeros(3, int)), r"a batch of shapes \(4, 7\), \(3,\): expected one label"),
        (
            (LOGITS, np.zeros(4, int), np.ones((4, 2))),
            r"\(4, 2\): expected one label for each image, and one",
        ),
        ([LOGITS, LOGITS, LOGITS, LOGITS], "a batch of 4 arrays: expected images and labels"),
        ({"images": LOGITS}, "a batch of <class 'dict'>: expected images and labels"),
    ],
)
def test_wrong_batches_are_refused_in_one_line(identity, batch, message):
    with pytest.raises(kd.UserError, match=message) as error:
        kd.evaluate(identity, [batch])
    assert "\n" not in str(error.value)


def test_a_model_of_other_outputs_is_refused():
    images = keras.Input((5,))
    for outputs in ({"logits": images}, [images, images], images[:, None]):
        with pytest.raises(kd.UserError, match=r"gives .*: expected one output \(batch, num_clas"):
            kd.evaluate(keras.Model(images, outputs), (LOGITS[:, :5], np.arange(4)))


class Subclassed(keras.Model):
    """A classifier whose end no layer shows."""

    def __init__(self, end):
        super().__init__()
        self.end = end

    def call(self, images):
        return self.end(images)


ENDS = {
    "activation": keras.layers.Activation("softmax"),
    "layer": keras.layers.Softmax(),
    "operation": keras.ops.softmax,
    "log layer": keras.layers.Activation("log_softmax"),
    "log operation": keras.ops.log_softmax,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_loss_of_probabilities_is_that_of_their_logits(identity, end):
    images = keras.Input((7,))
    batches = [(LOGITS[:3], np.array([0, 4, 5])), (LOGITS[3:], np.array([6]))]
    expected = kd.evaluate(identity, batches)["class"]
    for model in (keras.Model(images, end(images)), Subclassed(end)):
        score = kd.evaluate(model, batches)["class"]
        assert dataclasses.astuple(score) == pytest.approx(dataclasses.astuple(expected))


def test_half_precision_probabilities_are_probabilities(identity):
    batch = LOGITS, np.array([0, 4, 5, 6])
    rounded = keras.Sequential(
        [keras.Input((7,)), keras.layers.Activation("softmax", dtype="bfloat16")]
    )
    expected = kd.evaluate(identity, batch)["class"].loss
    assert kd.evaluate(rounded, batch)["class"].loss == pytest.approx(expected, rel=0.01)


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
def test_two_processes_score_all_images(forks, data_dir):
    keras.utils.set_random_seed(0)
    model = kd.build("deit_digits_distilled")
    expected = kd.evaluate(model, kd.data.evaluation(recipe("digits_none"), data_dir))

    arguments = ["-c", EVALUATE, str(data_dir)]
    commands = [(arguments, environ) for environ in environments("tensorflow")]
    for process in run_together(forks, commands):
        assert not process.returncode, process.stderr[-2000:]
        count, result = json.loads(process.stdout.splitlines()[-1])
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


def named_batches(names):
    """Batches whose images are of the classes "abcd" in turn; they are named in another order."""
    images = np.zeros((8, 24, 16, 3), "float32")
    images[:, 0, 0, 0] = 10 * (np.arange(8) % 4)
    labels = np.eye(4)[[names.index("abcd"[number % 4]) for number in range(8)]]
    dataset = tf.data.Dataset.from_tensor_slices((images, labels.astype("float32"))).batch(3)
    return Batches(dataset, BatchInfo(tuple(names), images=8, batch_size=3, steps=3))


@pytest.fixture
def perfect():
    """A model that tells the classes "abcd" by their first pixel: the nearest of 0, 10, 20, 30."""

    class Perfect(kd.DeiT):
        def logits(self, images, training=False):
            pixel = images[:, 0, 0, :1]
            return [-((pixel - 10 * keras.ops.arange(4.0)) ** 2)] * 2

    return Perfect((24, 16), 8, 12, 1, 3, num_classes=4, class_names=tuple("abcd"))


@pytest.mark.parametrize("names", ["abcd", "dbca", "badc"])
def test_the_same_classes_in_another_order_score_alike(perfect, names):
    result = kd.evaluate(perfect, named_batches(names))
    assert result["class"].top1 == result["distillation"].top1 == result["fused"].top1 == 1
    assert result["fused"].loss < 1e-6


def test_other_classes_are_refused(perfect):
    other = dataclasses.replace(named_batches("abcd").info, class_names=tuple("wxyz"))
    with pytest.raises(kd.UserError, match=r"4 classes \(a, b, c, ...\) and the data 4 \(w, x"):
        kd.evaluate(perfect, Batches(named_batches("abcd"), other))

    perfect.class_names = None  # then their number is all that can be compared
    assert kd.evaluate(perfect, named_batches("abcd"))["fused"].top1 == 1
    three = dataclasses.replace(other, class_names=tuple("wxy"))
    with pytest.raises(kd.UserError, match="the model has 4 classes and the data 3"):
        kd.evaluate(perfect, Batches(named_batches("abcd"), three))
