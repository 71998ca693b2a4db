"""Sample weights: batches of zero weight, and the loss that is reported. The same checks run on one
device, on TensorFlow's replicas and workers and on JAX's devices, in separate processes."""

import functools

import keras
import numpy as np
import pytest

import keras_deit as kd
from tests.conftest import recipe
from tests.programs.clusters import environments, run_together

IMAGES = np.random.default_rng(0).normal(size=(8, 24, 24, 3)).astype("float32")
CLASSES = np.arange(8) % 5
LABELS = np.eye(5, dtype="float32")[CLASSES]
PROGRAM = """
from keras_deit.distribution import Strategy, processes

strategy = Strategy({strategy!r})
assert strategy.device_count == 2
with strategy.scope():
    from tests.distillation import test_sample_weights as checks

    checks.check_zero_weights_change_nothing("adamw")
    checks.np.savez({path!r}, **checks.steps_with_zero_weights())
    processes.wait()
"""
TWO_DEVICES = {  # strategy, backend, devices of each process, processes
    "two replicas": ("mirrored", "tensorflow", 1, 1),
    "two workers": ("auto", "tensorflow", 1, 2),
    "JAX, two devices": ("auto", "jax", 2, 1),
}

CASES = {
    "adamw": {"accumulate": 2},  # decay, momentum and average; drop path has random states
    "sgd": {"family": "regnet", "optimizer": "sgd"},  # batch statistics
    "compiled": {"optimizer": "lamb", "jit_compile": True},
}

STEPS = {  # the weights of a batch
    "first device": [0, 0, 0, 0, 1, 2, 3, 4],
    "second device": [4, 3, 2, 1, 0, 0, 0, 0],
    "micro-batch of the second": [1, 2, 3, 4, 0, 0, 2, 1],
    "none": [0, 0, 0, 0, 0, 0, 0, 0],
    "all": [1, 2, 3, 4, 4, 3, 2, 1],
}


def make_model(family="deit", optimizer="adamw", drop_path=0.5, **options):
    """A compiled model, distilled if it is a DeiT."""
    keras.utils.set_random_seed(0)
    distillation = None
    if family == "regnet":
        model = kd.build("regnety_digits", num_classes=5)
    else:
        model = kd.DeiT(
            24, patch_size=8, width=12, depth=1, heads=3, num_classes=5, drop_path=drop_path
        )
        layers = [keras.Input((24, 24, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
        distillation = kd.Distillation(filled(keras.Sequential(layers)))

    settings = ["ema=0.9", "weight_decay=0.5", "lr=0.01", "warmup_epochs=0"]
    optimizer = kd.optimizer(
        recipe("digits_hard", *settings, f"optimizer={optimizer}"), steps_per_epoch=3
    )
    filled(model).compile(optimizer, kd.loss(), distillation=distillation, **options)
    return model


def filled(model):
    """The model with the same random weights on every backend."""
    rng = np.random.default_rng(1)
    # Positive, as variances have to be.
    model.set_weights([rng.uniform(0, 0.2, weight.shape) for weight in model.weights])
    return model


def state(model):
    return {v.path: np.asarray(v) for v in (*model.variables, *model.optimizer.variables)}


def fit(model, weights):
    model.fit(IMAGES, LABELS, sample_weight=weights, batch_size=8, shuffle=False, verbose=0)
    return state(model)


def check_zero_weights_change_nothing(case):
    model = make_model(**CASES[case])
    before = fit(model, np.ones(8))
    after = fit(model, np.zeros(8))
    assert [path for path in before if not np.array_equal(before[path], after[path])] == []

    last = fit(model, np.ones(8))
    moved = [path for path in after if not np.array_equal(after[path], last[path])]
    assert len(moved) > len(model.trainable_variables)
    assert all(np.isfinite(value).all() for value in last.values())


def check_an_empty_micro_batch_adds_nothing():
    results = []
    for accumulate, rows in ((2, slice(0, 8)), (1, slice(4, 8))):
        keras.utils.set_random_seed(0)
        model = kd.DeiT(24, patch_size=8, width=12, depth=1, heads=3, num_classes=5)
        model.compile(keras.optimizers.SGD(0.1), kd.loss(), accumulate=accumulate)
        weights = np.array([0, 0, 0, 0, 1, 2, 1, 1])
        options = {"batch_size": 8, "shuffle": False, "verbose": 0}
        model.fit(IMAGES[rows], LABELS[rows], sample_weight=weights[rows], **options)
        results.append(model.get_weights())
    for accumulated, direct in zip(*results, strict=True):
        np.testing.assert_allclose(accumulated, direct, atol=1e-6)


def steps_with_zero_weights():
    """The state after each of ``STEPS`` without random numbers: arrays by names."""
    results = {}
    for case in ("adamw", "sgd"):
        model = make_model(**CASES[case], drop_path=0.0)
        model.optimizer.epsilon = 1e-3  # Adam would make steps of rounding
        for name, weights in STEPS.items():
            fit(model, np.array(weights))
            arrays = [*model.get_weights(), *map(np.asarray, model.optimizer.averages)]
            results |= {f"{case}/{name}/{number}": array for number, array in enumerate(arrays)}
    return results


@functools.cache
def steps_of_one_device():
    return steps_with_zero_weights()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_batch_of_zero_weight_changes_nothing(case):
    check_zero_weights_change_nothing(case)


def test_an_empty_micro_batch_adds_nothing():
    check_an_empty_micro_batch_adds_nothing()


@pytest.mark.slow
@pytest.mark.parametrize("name", TWO_DEVICES)
def test_zero_weights_add_nothing_on_two_devices(forks, name, tmp_path):
    strategy, backend, devices, count = TWO_DEVICES[name]
    paths = [f"{tmp_path}/{index}.npz" for index in range(count)]
    commands = [
        (["-c", PROGRAM.format(strategy=strategy, path=path)], environ)
        for path, environ in zip(paths, environments(backend, devices, count), strict=True)
    ]
    for process in run_together(forks, commands, timeout=300):
        assert not process.returncode, process.stderr[-2000:]

    # The steps are those of one device with the joined batch.
    expected = steps_of_one_device()
    for path in paths:
        results = np.load(path)
        assert set(results) == set(expected)
        for key, value in expected.items():
            np.testing.assert_allclose(results[key], value, atol=1e-6, err_msg=key)


def test_a_class_can_be_ignored_by_its_weight(tiny):
    images, labels = IMAGES[:, :, :16], CLASSES % 2
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    tiny.compile(keras.optimizers.AdamW(1e-3), loss)
    logs = tiny.fit(images, labels, batch_size=1, class_weight={0: 0.0, 1: 1.0}, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert all(np.isfinite(value).all() for value in tiny.get_weights())


def reported(family, reduction, weights, evaluate):
    """The loss that ``fit`` and ``evaluate`` report for two batches of other sizes and weights."""
    keras.utils.set_random_seed(0)
    model = kd.DeiT(24, patch_size=8, width=12, depth=1, heads=3, num_classes=5)
    if family is keras.Model:
        images = keras.Input((24, 24, 3))
        model = keras.Model(images, model(images))

    loss = keras.losses.CategoricalCrossentropy(from_logits=True, reduction=reduction)
    model.compile(keras.optimizers.SGD(1.0), loss)
    options = {"batch_size": 5, "sample_weight": weights, "verbose": 0}
    if evaluate:
        return model.evaluate(IMAGES, LABELS, **options)
    return model.fit(IMAGES, LABELS, shuffle=False, **options).history["loss"][0]


@pytest.mark.slow
@pytest.mark.parametrize("evaluate", [False, True], ids=["fit", "evaluate"])
@pytest.mark.parametrize("weights", [np.arange(8.0) * 3, None], ids=["weighted", "unweighted"])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
def test_the_reported_loss_is_that_of_keras(reduction, weights, evaluate):
    ours, keras_loss = (
        reported(family, reduction, weights, evaluate) for family in (kd.DeiT, keras.Model)
    )
    assert ours == pytest.approx(keras_loss, rel=1e-5)


def test_the_reported_loss_of_a_weighted_mean_is_that_of_all_images():
    weights = np.arange(8.0)
    model = kd.DeiT(24, patch_size=8, width=12, depth=1, heads=3, num_classes=5)
    model.compile("sgd", kd.loss())
    loss = model.evaluate(IMAGES, LABELS, batch_size=5, sample_weight=weights, verbose=0)
    losses = keras.losses.categorical_crossentropy(LABELS, model(IMAGES), from_logits=True)
    assert loss == pytest.approx(np.average(losses, weights=weights), rel=1e-5)


def test_the_reported_losses_of_both_heads_mix_to_the_loss():
    model = make_model()
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, distillation=model.distillation)
    options = {"batch_size": 5, "sample_weight": np.arange(8.0), "verbose": 0}
    logs = model.fit(IMAGES, LABELS, **options).history
    mixed = (logs["class_loss"][0] + logs["distillation_loss"][0]) / 2
    assert logs["loss"][0] == pytest.approx(mixed, rel=1e-5)
