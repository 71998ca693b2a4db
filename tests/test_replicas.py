"""Two replicas, and JAX, train as one device of TensorFlow does. Each case has a process of its
own."""

import os
import subprocess
import sys

import numpy as np
import pytest

import keras_deit as kd
from keras_deit import replicas, strategies
from tests.conftest import ROOT, recipe

START = """
import contextlib, sys
import keras
import numpy as np
import tensorflow as tf

count = int(sys.argv[1])
if count > 1:
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(cpu, parts)
import keras_deit as kd
from tests.conftest import recipe
"""
STEPS = (
    START
    + """
row = kd.Recipe("", "deit_digits", lr=2e-3, batch_size=512, warmup_epochs=0, epochs=1,
                ema=0.9, clip_norm=1.0, weight_decay=0.5, optimizer="sgd")
strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])
rng = np.random.default_rng(0)
images = rng.normal(size=(39, 24, 16, 3)).astype("float32")
labels = rng.dirichlet(np.ones(5), 39).astype("float32")
with strategy.scope() if count > 1 else contextlib.nullcontext():
    teacher = keras.Sequential(
        [keras.Input((24, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
    )
    model = kd.DeiT((24, 16), patch_size=8, width=12, depth=2, heads=3, num_classes=5)
    for each in (model, teacher):
        each.set_weights([rng.normal(scale=0.3, size=x.shape) for x in each.get_weights()])
    model.compile(
        kd.optimizer(row, 3), kd.loss(row), metrics=["accuracy"],
        distillation=kd.Distillation(teacher),
    )
batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(15)  # 15, 15 and 9
logs = model.fit(batches, verbose=0, shuffle=False).history
model.save(sys.argv[2] + ".keras")
saved = keras.saving.load_model(sys.argv[2] + ".keras")  # without the teacher
assert len(saved.variables) == len(kd.DeiT(**model.fields).variables)
arrays = [*model.trainable_variables, *model.optimizer.averages]
logs = [logs[name][0] for name in sorted(logs)]
np.savez(sys.argv[2], logs, *[np.array(array) for array in arrays])
"""
)
RUN = (
    START
    + """
strategy = "mirrored" if count > 1 else "single"
settings = ["optimizer=sgd", "lr=0.2", "ema=0.5", f"strategy={strategy}"]
teacher = f"teacher={sys.argv[4]}"
row = recipe("digits_hard", "drop_path=0", "passes=4", teacher, *settings)
model = kd.train(row, sys.argv[2] + ".run", sys.argv[3], quiet=True)
with open(sys.argv[2] + ".run/metrics.csv") as lines:
    rows = np.array([line.split(",") for line in lines.read().splitlines()])
numbers = rows[1:, rows[0] != "images_per_second"].astype(float)
np.savez(sys.argv[2], numbers, *model.get_weights())
"""
)
MASKS = (
    START
    + """
from keras_deit.layers import DropPath
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    layer = DropPath(0.5)
run = tf.function(lambda: strategy.run(lambda: layer(tf.ones((64, 1)), training=True)))
parts = [strategy.experimental_local_results(run()) for _ in range(2)]
np.savez(sys.argv[2], *[np.array(part) for step in parts for part in step])
"""
)


def arrays(code, count, path, *arguments, backend="tensorflow"):
    done = subprocess.run(
        [sys.executable, "-c", code, str(count), str(path), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not done.returncode, done.stderr[-2000:]
    return list(dict(np.load(f"{path}.npz")).values())


def test_without_a_strategy_there_is_one_replica():
    assert (replicas.count(), replicas.index(), replicas.total(3.0)) == (1, 0, 3.0)
    with strategies.scope(recipe("digits_none")):
        assert replicas.count() == 1


def test_a_whole_step_is_not_compiled_for_replicas():
    with pytest.raises(kd.UserError, match="expected jit_compile=auto or strategy=single"):
        replicas.scope(recipe("digits_none", "strategy=mirrored", "jit_compile=true"))


@pytest.mark.slow
def test_two_replicas_and_jax_take_the_steps_of_one_device(tmp_path):
    one, two = (arrays(STEPS, count, tmp_path / str(count)) for count in (1, 2))
    jax = arrays(STEPS, 1, tmp_path / "jax", backend="jax")
    for expected, *found in zip(one, two, jax, strict=True):
        for other in found:
            np.testing.assert_allclose(other, expected, atol=1e-6)


@pytest.mark.slow
def test_a_recipe_on_two_replicas_is_that_on_one_device(tmp_path, data_dir):
    kd.build("regnety_digits").save(tmp_path / "teacher.keras")
    given = data_dir, tmp_path / "teacher.keras"
    one, two = (arrays(RUN, count, tmp_path / str(count), *given) for count in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert "on 2 devices" in (tmp_path / "2.run" / "plan.json").read_text()


@pytest.mark.slow
def test_replicas_drop_different_paths(tmp_path):
    masks = arrays(MASKS, 2, tmp_path / "masks")
    assert all(set(np.unique(mask)) == {0, 2} for mask in masks)
    assert len({mask.tobytes() for mask in masks}) == 4  # of two steps
