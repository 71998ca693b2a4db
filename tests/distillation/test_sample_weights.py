"""Sample weights: batches of zero weight, and the loss that is reported. The same checks run on one
TensorFlow device, on replicas and on JAX, each of the last two in a process of its own."""

import keras
import numpy as np
import pytest

import keras_deit as kd
from tests.conftest import recipe

IMAGES = np.random.default_rng(0).normal(size=(8, 24, 24, 3)).astype("float32")
CLASSES = np.arange(8) % 5
LABELS = np.eye(5, dtype="float32")[CLASSES]
PROGRAM = """
from keras_deit.distribution import Strategy
with Strategy({strategy!r}).scope():
    from tests.distillation import test_sample_weights as checks
    for case in ("adamw", "sgd"):
        checks.check_zero_weights_change_nothing(case)
    checks.check_an_empty_micro_batch_adds_nothing()
"""

CASES = {
    "adamw": {"accumulate": 2},  # decay, momentum and average; drop path has random states
    "sgd": {"family": "regnet", "optimizer": "sgd"},  # batch statistics
    "compiled": {"optimizer": "lamb", "jit_compile": True},
}


def make_model(family="deit", optimizer="adamw", **options):
    """A compiled model, distilled if it is a DeiT."""
    keras.utils.set_random_seed(0)
    distillation = None
    if family == "regnet":
        model = kd.build("regnety_digits", num_classes=5)
    else:
        model = kd.DeiT(24, patch_size=8, width=12, depth=2, heads=3, num_classes=5, drop_path=0.5)
        layers = [keras.Input((24, 24, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
        distillation = kd.Distillation(keras.Sequential(layers))

    settings = ["ema=0.9", "weight_decay=0.5", "lr=0.01", "warmup_epochs=0"]
    optimizer = kd.optimizer(
        recipe("digits_hard", *settings, f"optimizer={optimizer}"), steps_per_epoch=3
    )
    model.compile(optimizer, kd.loss(), distillation=distillation, **options)
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


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_batch_of_zero_weight_changes_nothing(case):
    check_zero_weights_change_nothing(case)


def test_an_empty_micro_batch_adds_nothing():
    check_an_empty_micro_batch_adds_nothing()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_zero_weights_add_nothing_on_replicas_and_jax(forks, backend):
    strategy = "mirrored" if backend == "tensorflow" else "single"
    arguments = ["-c", PROGRAM.format(strategy=strategy)]
    done = forks.run(arguments, environ={"KERAS_BACKEND": backend})
    assert not done.returncode, done.stderr[-2000:]


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
