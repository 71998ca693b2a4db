"""The strategies that a recipe trains on, and what they refuse."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deit as kd
from keras_deit.distribution import Strategy, replicas, strategies
from tests.conftest import ROOT, recipe


class Tpu:
    """A strategy as ``TPUStrategy`` is: this host's, or one of several hosts."""

    def __init__(self, hosts):
        self.extended = type("Extended", (), {"num_hosts": hosts})()

    def scope(self):
        return "scope of the TPU"


@pytest.fixture
def tpu(monkeypatch):
    """Stands for a TPU, with so many hosts, and keeps what is asked of TensorFlow, in order."""

    def there(hosts=1, error=None):
        asked = []

        def resolver(tpu):
            asked.append(f"resolve {tpu}")
            if error:
                raise error
            return tpu

        def note(name, result=None):
            return lambda *given: asked.append(f"{name} {given[0]}") or result

        resolvers, tpus = tf.distribute.cluster_resolver, tf.tpu.experimental
        monkeypatch.setattr(resolvers, "TPUClusterResolver", resolver)
        monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", note("connect"))
        monkeypatch.setattr(tpus, "initialize_tpu_system", note("initialize"))
        monkeypatch.setattr(tf.distribute, "TPUStrategy", note("strategy", Tpu(hosts)))
        strategies._tpu.cache_clear()
        return asked

    yield there
    strategies._tpu.cache_clear()


@pytest.mark.parametrize(("name", "connects"), [("", False), ("tpu-7", True)])
def test_a_tpu_is_found_and_initialized(tpu, monkeypatch, name, connects):
    monkeypatch.setenv("TPU_NAME", name)
    asked, name = tpu(), name or "local"
    assert Strategy("tpu").scope() == "scope of the TPU"
    steps = ["resolve", *["connect"] * connects, "initialize", "strategy"]
    assert asked == [f"{step} {name}" for step in steps]


def test_a_missing_tpu_is_refused(tpu):
    tpu(error=ValueError("Could not find\n a TPU"))
    with pytest.raises(kd.UserError, match=r"no TPU 'local' \(Could not find a TPU\)"):
        Strategy("tpu").scope()
    tpu(hosts=4)
    with pytest.raises(kd.UserError, match=r"a TPU of 4 hosts: expected .* KERAS_BACKEND=jax"):
        Strategy("tpu").scope()


@pytest.mark.slow
def test_xla_compiles_the_whole_step_with_static_shapes(tiny):
    """As a TPU needs it."""
    flat = [keras.Input((24, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
    row = kd.Recipe("", "deit_digits", batch_size=64, clip_norm=1.0, ema=0.9)
    distillation = kd.Distillation(keras.Sequential(flat))
    tiny.compile(kd.optimizer(row, 3), kd.loss(row), distillation=distillation, accumulate=2)
    images, labels = np.zeros((4, 24, 16, 3), "float32"), np.eye(5, dtype="float32")[:4]
    tiny.fit(images, labels, verbose=0)  # which makes the metrics' variables
    step = tf.function(lambda *batch: tiny.train_step(batch), jit_compile=True, autograph=False)
    program = step.experimental_get_compiler_ir(*map(tf.constant, (images, labels)))(stage="hlo")
    assert program.count(" dot(") > 30
    assert "<=" not in program  # a size that is known only at run time


def test_logical_devices_cannot_be_made_after_tensorflow_was_used():
    tf.zeros(())
    with pytest.raises(kd.UserError, match="expected several GPUs, or a process that has not used"):
        Strategy("mirrored")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": keras.optimizers.AdamW(clipnorm=1.0)}, "Keras' clipping"),
        (
            {"optimizer": keras.optimizers.SGD(gradient_accumulation_steps=2)},
            "gradient_accumulation_steps",
        ),
        (
            {"optimizer": keras.optimizers.SGD(use_ema=True, ema_overwrite_frequency=2)},
            "ema_overwrite_frequency",
        ),
        ({"steps_per_execution": 2}, "steps_per_execution"),
        (
            {"optimizer": keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())},
            "mixed_float16: an infinite gradient",
        ),
    ],
)
def test_what_keras_computes_incorrectly_with_replicas_is_refused(
    tiny, monkeypatch, options, message
):
    tiny.compile(**{"optimizer": "sgd", "loss": "mse", **options})  # one has it
    monkeypatch.setattr(replicas, "count", lambda: 2)
    with pytest.raises(kd.UserError, match=f"several replicas cannot train with {message}"):
        tiny.compile(**{"optimizer": "sgd", "loss": "mse", **options})


def test_accumulation_with_sample_weights_needs_a_weighted_mean(tiny):
    images, labels = np.zeros((4, 24, 16, 3), "float32"), np.eye(5, dtype="float32")[:4]
    own = keras.losses.CategoricalCrossentropy(from_logits=True)
    tiny.compile("sgd", own, accumulate=2)
    with pytest.raises(kd.UserError, match=r"expected keras_deit.loss, or a Keras loss with"):
        tiny.fit(images, labels, sample_weight=np.ones(4), verbose=0)
    tiny.compile("sgd", kd.loss(None), accumulate=2)
    tiny.fit(images, labels, sample_weight=np.ones(4), verbose=0)


def test_evaluation_on_replicas_with_sample_weights_needs_a_weighted_mean(tiny, monkeypatch):
    images, labels = np.zeros((4, 24, 16, 3), "float32"), np.eye(5, dtype="float32")[:4]
    tiny.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    monkeypatch.setattr(replicas, "count", lambda: 2)
    with pytest.raises(kd.UserError, match=r"expected keras_deit.loss, or a Keras loss with"):
        tiny.evaluate(images, labels, sample_weight=np.ones(4), verbose=0)


def test_accumulation_refuses_a_summed_loss(tiny):
    total = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
    tiny.compile("sgd", total)
    with pytest.raises(kd.UserError, match="needs a loss that is a mean, not a sum"):
        tiny.compile("sgd", total, accumulate=2)


def indivisible_batches():
    """Batches of 4 images and 1; how many is not known before the last."""
    images, labels = np.zeros((5, 24, 16, 3), "float32"), np.eye(5, dtype="float32")
    yield images[:4], labels[:4]
    yield images[4:], labels[4:]


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_batch_that_does_not_divide_into_micro_batches_is_refused(tiny, jit_compile):
    images, labels = np.zeros((5, 24, 16, 3), "float32"), np.eye(5, dtype="float32")
    tiny.compile("sgd", kd.loss(None), accumulate=2, jit_compile=jit_compile)
    message = "does not divide into 2 micro-batches: expected a multiple of 2 images"

    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    for data in ((images, labels, 5), (images, labels, 4), (batches.prefetch(1),)):
        with pytest.raises(kd.UserError, match=message):
            tiny.fit(*data, shuffle=False, verbose=0)
        assert not int(tiny.optimizer.iterations)  # before the first step

    tiny.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0)
    signature = tf.nest.map_structure(
        lambda spec: tf.TensorSpec((None, *spec.shape[1:]), spec.dtype), batches.element_spec
    )
    batches = tf.data.Dataset.from_generator(indivisible_batches, output_signature=signature)
    with pytest.raises(kd.UserError, match=message):
        tiny.fit(batches, shuffle=False, verbose=0)
    with pytest.raises(kd.UserError, match=message):
        tiny.train_on_batch(images, labels)


REFUSED = """
from keras_deit.distribution import Strategy

with Strategy({strategy!r}).scope():
    from tests.distribution import test_strategies

    test_strategies.check_a_refused_batch_changes_nothing()
"""


def check_a_refused_batch_changes_nothing():
    model = kd.DeiT((24, 16), 8, 12, 1, 3, num_classes=5, drop_path=0.3)
    model.compile("adamw", kd.loss(), accumulate=2, jit_compile=False)
    images, labels = np.zeros((7, 24, 16, 3), "float32"), np.eye(5, dtype="float32")[[0] * 7]
    spec = tf.TensorSpec((None, 24, 16, 3)), tf.TensorSpec((None, 5))

    def batches(rows):
        return tf.data.Dataset.from_generator(
            lambda: iter([(images[:rows], labels[:rows])]), output_signature=spec
        )

    def state():
        return [np.array(variable) for variable in (*model.variables, *model.optimizer.variables)]

    # Of 7 images, one of two replicas gets 4, which divide.
    model.fit(batches(4), shuffle=False, verbose=0)
    before = state()
    for rows in (7, 3):
        with pytest.raises(kd.UserError, match="does not divide into 2 micro-batches"):
            model.fit(batches(rows), shuffle=False, verbose=0)
    for one, other in zip(before, state(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["single", "mirrored"])
def test_a_refused_batch_changes_nothing(strategy):
    options = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300}
    code = REFUSED.format(strategy=strategy)
    process = subprocess.run([sys.executable, "-W", "ignore", "-c", code], **options)
    assert not process.returncode, process.stderr[-2000:]


def test_a_batch_smaller_than_the_number_of_replicas_is_refused(tiny, monkeypatch):
    images, labels = np.zeros((5, 24, 16, 3), "float32"), np.eye(5, dtype="float32")
    tiny.compile("sgd", kd.loss())
    monkeypatch.setattr(replicas, "count", lambda: 2)
    message = "a batch of 1 images does not divide among 2 devices: expected at least 2 images"
    with pytest.raises(kd.UserError, match=message):
        tiny.fit(images, labels, batch_size=4, verbose=0)
    assert not int(tiny.optimizer.iterations)  # before the first step


def test_a_batch_must_divide_among_devices(monkeypatch):
    check_batch = strategies.check_batch
    check_batch(recipe("digits_none", "batch_size=60"), Strategy("single").device_count)
    check_batch(recipe("digits_none", "batch_size=60"), 8)  # MirroredStrategy divides unequally
    with pytest.raises(
        kd.UserError, match="in 2 micro-batches on 8 devices: expected a multiple of 16"
    ):
        check_batch(recipe("digits_none", "batch_size=60", "accumulate=2"), 8)
    monkeypatch.setattr(strategies.processes, "count", lambda: 2)
    with pytest.raises(kd.UserError, match="batch_size=60 on 8 devices: expected a multiple of 8"):
        check_batch(recipe("digits_none", "batch_size=60"), 8)
