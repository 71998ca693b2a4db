"""``Batches`` are a dataset like any other, and know what they are batches of."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

import keras_deit as kd
from keras_deit.data.batches import Batches, BatchInfo
from keras_deit.data.pipeline import user_errors
from tests import archives
from tests.conftest import recipe

FIT = """
import json, sys
import keras
import numpy as np
import keras_deit as kd
from tests.conftest import recipe

devices, data_dir = int(sys.argv[1]), sys.argv[2]
scope = keras.name_scope("one")
if devices > 1:
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()
row = recipe("digits_none", "drop_path=0", "passes=8")
train, valid = kd.data.train(row, data_dir), kd.data.evaluation(row, data_dir)
with scope:
    model = kd.build(row.variant, num_classes=10)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(scale=0.05, size=x.shape) for x in model.get_weights()])
    model.compile(keras.optimizers.SGD(0.05), kd.loss(row))
history = model.fit(train, validation_data=valid, epochs=2, shuffle=False, verbose=0).history
print(json.dumps([history["loss"], history["val_loss"]]))
"""


def history(forks, data_dir, backend, devices):
    """Training and validation losses of a run in a separate process."""
    arguments = ["-c", FIT, str(devices), str(data_dir)]
    done = forks.run(arguments, environ={"KERAS_BACKEND": backend})
    assert not done.returncode, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_fit_is_the_same_on_one_device_on_two_and_on_jax(forks, data_dir):
    one = history(forks, data_dir, "tensorflow", 1)
    for other in (history(forks, data_dir, "tensorflow", 2), history(forks, data_dir, "jax", 1)):
        for name, losses in zip(("training", "validation"), other, strict=True):
            assert losses == pytest.approx(one[name == "validation"], rel=1e-5), name


def test_info_of_training_batches(data_dir):
    batches = kd.data.train(recipe(), data_dir)
    assert isinstance(batches, Batches)
    content = {"classes": dict.fromkeys("0123456789"), "content": "digits/all/1.0.0"}
    assert batches.info == BatchInfo(
        tuple("0123456789"), images=90, batch_size=60, steps=3, content=content
    )
    assert (batches.class_names, batches.num_classes, batches.steps) == (tuple("0123456789"), 10, 3)
    assert len(batches) == 3
    for images, labels in batches:
        assert images.shape == (60, 8, 8, 3)
        np.testing.assert_allclose(np.sum(labels, axis=1), 1, rtol=1e-5)

    # A batch is no larger than the data.
    batches = kd.data.train(recipe("digits_hard", "batch_size=1000"), data_dir)
    assert (batches.info.batch_size, batches.steps) == (180, 1)


def test_info_of_evaluation_batches(data_dir):
    batches = kd.data.evaluation(recipe(), data_dir)
    assert isinstance(batches, Batches)
    info = dataclasses.replace(batches.info, content={})
    assert info == BatchInfo(tuple("0123456789"), images=360, batch_size=256, steps=2)
    assert batches.info.content["content"] == "digits/all/1.0.0"
    assert len(batches) == 2


def test_info_of_several_processes_is_of_all_of_them(data_dir):
    row = recipe("digits_none", "mix_group=30")
    for index in (0, 1):
        info = kd.data.train(row, data_dir, process=(index, 2)).info
        assert (info.images, info.batch_size, info.steps, info.process_count) == (90, 60, 3, 2)
        info = kd.data.evaluation(row, data_dir, process=(index, 2)).info
        assert (info.images, info.batch_size, info.steps, info.process_count) == (360, 360, 1, 2)


def test_batches_are_a_dataset_like_any_other():
    options = tf.data.Options()
    options.deterministic = False
    dataset = tf.data.Dataset.range(10).batch(4).with_options(options)
    batches = Batches(dataset, BatchInfo(("a", "b"), images=10, batch_size=4, steps=3))
    assert batches.element_spec == dataset.element_spec
    assert batches.options().deterministic is False
    assert [batch.tolist() for batch in batches.as_numpy_iterator()] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]
    assert [batch.tolist() for batch in batches.skip(2).as_numpy_iterator()] == [[8, 9]]
    assert not hasattr(batches.take(1), "info")


def test_a_user_error_is_raised_as_it_is(tmp_path):
    (tmp_path / "train" / "ant").mkdir(parents=True)
    (tmp_path / "val" / "ant").mkdir(parents=True)
    for folder in ("train", "val"):
        (tmp_path / folder / "ant" / "0.jpg").write_bytes(archives.jpeg(0)[:99])
    batches = kd.data.images(f"folder:{tmp_path}", "train", size=(8, 8))
    for kept in (batches, kd.data.padded(batches, 4)):
        with pytest.raises(kd.UserError, match=r"ant/0.jpg: corrupt image"), user_errors(kept):
            list(kept)
    assert isinstance(batches.info.errors[0], kd.UserError)


def test_other_errors_stay_as_they_are(data_dir):
    for batches in (kd.data.evaluation(recipe(), data_dir), [1, 2], tf.data.Dataset.range(3)):
        with pytest.raises(KeyError, match="'mine'"), user_errors(batches):
            raise KeyError("mine")
