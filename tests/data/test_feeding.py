"""The batches feed fit wherever it runs. Each case has a process of its own."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import keras_deit as kd
from tests.conftest import ROOT, recipe

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


def history(data_dir, backend, devices):
    done = subprocess.run(
        [sys.executable, "-c", FIT, str(devices), data_dir],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not done.returncode, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_look_at_the_data_costs_no_epoch(data_dir):
    row = recipe("digits_none")
    batches, looked_at = kd.data.train(row, data_dir), kd.data.train(row, data_dir)
    next(iter(looked_at))
    for one, two in zip((*batches, *batches), (*looked_at, *looked_at), strict=True):
        np.testing.assert_array_equal(one[0], two[0])


@pytest.mark.slow
def test_fit_is_the_same_on_one_device_on_two_and_on_jax(data_dir):
    one = history(data_dir, "tensorflow", 1)
    for other in (history(data_dir, "tensorflow", 2), history(data_dir, "jax", 1)):
        for name, losses in zip(("training", "validation"), other, strict=True):
            assert losses == pytest.approx(one[name == "validation"], rel=1e-5), name
