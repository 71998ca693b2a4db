"""What replicas share and what they do not. Each case starts a separate process."""

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.distribution import Strategy, replicas

START = """
import sys
import numpy as np
import tensorflow as tf

count = int(sys.argv[1])
if count > 1:
    cpu = tf.config.list_physical_devices("CPU")[0]
    devices = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(cpu, devices)
import keras_deit as kd
from tests.conftest import recipe
"""
RUN = (
    START
    + """
strategy = "mirrored" if count > 1 else "single"
settings = ["optimizer=sgd", "lr=0.2", "ema=0.5", "passes=4", f"strategy={strategy}"]
results = []
for name, own in (
    ("digits_teacher", []),  # whose replicas share the statistics of a batch
    ("digits_hard", ["drop_path=0", f"teacher={sys.argv[4]}"]),
):
    model = kd.train(recipe(name, *settings, *own), sys.argv[2] + name, sys.argv[3], quiet=True)
    with open(f"{sys.argv[2]}{name}/metrics.csv") as lines:
        rows = np.array([line.split(",") for line in lines.read().splitlines()])
    results += [rows[1:, rows[0] != "images_per_second"].astype(float), *model.get_weights()]
np.savez(sys.argv[2], *results)
"""
)
OUTSIDE = (
    START
    + """
import keras
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = kd.DeiT((24, 16), patch_size=8, width=12, depth=1, heads=3, num_classes=5)
try:
    model.compile(keras.optimizers.AdamW(clipnorm=1.0), kd.loss(None))
except kd.UserError as error:
    np.savez(sys.argv[2], np.array(str(error)))
"""
)
MASKS = (
    START
    + """
from keras_deit.models.dropout import DropPath
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    layer = DropPath(0.5)
run = tf.function(lambda: strategy.run(lambda: layer(tf.ones((64, 1)), training=True)))
masks_by_step = [strategy.experimental_local_results(run()) for _ in range(2)]
np.savez(sys.argv[2], *[np.array(mask) for masks in masks_by_step for mask in masks])
"""
)


def arrays(forks, code, count, path, *arguments):
    done = forks.run(["-c", code, str(count), str(path), *map(str, arguments)])
    assert not done.returncode, done.stderr[-2000:]
    return list(dict(np.load(f"{path}.npz")).values())


def test_without_a_strategy_there_is_one_replica():
    assert (replicas.count(), replicas.index(), replicas.total(3.0)) == (1, 0, 3.0)
    with Strategy("single").scope():
        assert replicas.count() == 1


@pytest.mark.slow
def test_two_replicas_match_one_device(forks, tmp_path, data_dir):
    kd.build("regnety_digits").save(tmp_path / "teacher.keras")
    given = data_dir, tmp_path / "teacher.keras"
    one, two = (arrays(forks, RUN, count, tmp_path / str(count), *given) for count in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert "2 CPU devices" in (tmp_path / "2digits_hard" / "plan.json").read_text()


@pytest.mark.slow
def test_replicas_draw_different_drop_path_masks(forks, tmp_path):
    masks = arrays(forks, MASKS, 2, tmp_path / "masks")
    assert all(set(np.unique(mask)) == {0, 2} for mask in masks)
    assert len({mask.tobytes() for mask in masks}) == 4  # of two steps


@pytest.mark.slow
def test_compile_outside_the_strategy_scope_uses_the_models_strategy(forks, tmp_path):
    (error,) = arrays(forks, OUTSIDE, 2, tmp_path / "outside")
    assert "several replicas cannot train with Keras' clipping" in str(error)
