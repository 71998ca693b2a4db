"""Tests of the PyTorch backend, in an environment that has it (.ci/torch makes one):
KERAS_BACKEND=torch python -m pytest tests/programs/on_torch.py

TensorFlow gives the files and numbers to compare with, in a separate process.
"""

import os
import pathlib
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

import keras_deit as kd
from keras_deit.distribution import Strategy
from keras_deit.models.stateless_random import uniform
from keras_deit.weights.names import variables
from tests.conftest import GOLDENS, ROOT, recipe
from tests.parameters import PLAIN, load
from tests.utils import test_private_names

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 24, 16, 3)).astype("float32")
Y = np.eye(5, dtype="float32")[np.arange(8) % 5]
WEIGHTS = np.array([1, 0, 2, 1, 1, 0, 0.5, 1], "float32")

DEIT = {"patch_size": 8, "width": 12, "depth": 2, "heads": 3, "num_classes": 5}
REGNET = {"stem": 8, "depths": (1, 2), "widths": (8, 16), "group_width": 8, "num_classes": 5}
FILES = [
    ("deit", "file.keras"),
    ("deit", "file.weights.h5"),
    ("deit", "file.safetensors"),
    ("deit", "folder"),  # for timm, which has no name for the RegNetY
    ("regnet", "file.keras"),
    ("regnet", "file.weights.h5"),
    ("regnet", "file.safetensors"),
]


def filled(model):
    """The model with the same random weights on every backend."""
    rng = np.random.default_rng(1)
    for variable in model.weights:
        # Positive, as the moving variances of batch normalization must be.
        variable.assign(
            rng.uniform(0.1, 0.4, variable.shape)
            if variable.ndim < 2
            else rng.normal(scale=0.1, size=variable.shape)
        )
    return model


def deit(**options):
    return filled(kd.DeiT((24, 16), **DEIT, **options))


def regnet():
    return filled(kd.RegNetY(**REGNET))


MODELS = {"deit": deit, "regnet": regnet}


def write(model, path):
    """One of ``FILES``, by its suffix."""
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    elif path.suffix == ".keras":
        model.save(path)
    else:
        kd.save_pretrained(model, path)


def distilled_weights(**options):
    """The weights after three steps that have everything that a step can have: a convnet as the
    teacher, micro-batches, sample weights, drop path and dropout."""
    keras.utils.set_random_seed(0)
    student = deit(drop_path=0.3, dropout=0.1)
    student.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        kd.loss(),
        distillation=kd.Distillation(regnet(), kind="soft", alpha=0.4, tau=2),
        accumulate=2,
        **options,
    )
    student.fit(X, Y, sample_weight=WEIGHTS, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return np.concatenate([np.ravel(weight) for weight in student.get_weights()])


def history(data_dir):
    """Losses of a run on our data, and the scores of its model."""
    row = recipe("digits_none", "drop_path=0", "passes=8")
    train, valid = kd.data.train(row, data_dir), kd.data.evaluation(row, data_dir)
    model = filled(kd.build(row.variant, num_classes=10))
    model.compile(keras.optimizers.SGD(0.05), kd.loss(row), metrics=["accuracy"])

    logs = model.fit(train, validation_data=valid, epochs=2, shuffle=False, verbose=0).history
    scores = kd.evaluate(model, valid)["fused"]
    evaluated = model.evaluate(valid, verbose=0, return_dict=True)

    losses = [*logs["loss"], *logs["val_loss"], evaluated["loss"], scores.loss]
    return np.array([*losses, evaluated["accuracy"], scores.top1])


def results(data_dir):
    """What every backend must agree on, arrays by name."""
    models = {name: make() for name, make in MODELS.items()}
    return {
        "uniform": keras.ops.convert_to_numpy(uniform(1000, (7, 3))),
        "distilled": distilled_weights(),
        "history": history(data_dir),
        **{f"{name} outputs": model.predict(X, verbose=0) for name, model in models.items()},
        **{f"{name} paths": [v.path for v in model.variables] for name, model in models.items()},
        **{f"{name} names": list(variables(model)) for name, model in models.items()},
    }


def main(folder, data_dir):
    np.savez(f"{folder}/results.npz", **results(data_dir))
    for name, file in FILES:
        path = pathlib.Path(folder, name, file)
        path.parent.mkdir(exist_ok=True)
        write(MODELS[name](), path)
    assert "torch" not in sys.modules


@pytest.fixture(scope="module")
def tensorflow(tmp_path_factory, data_dir):
    """A folder with what TensorFlow writes."""
    folder = tmp_path_factory.mktemp("tensorflow")
    subprocess.run(
        [sys.executable, "-m", "tests.programs.on_torch", folder, data_dir],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        check=True,
        cwd=ROOT,
    )
    return folder


@pytest.fixture(scope="module")
def both(tensorflow, data_dir):
    """The results of TensorFlow and of PyTorch."""
    return dict(np.load(tensorflow / "results.npz")), results(data_dir)


def test_torch_is_the_backend():
    assert keras.backend.backend() == "torch"


def test_names_and_paths_are_those_of_tensorflow(both):
    for name in MODELS:
        for what in ("paths", "names"):
            expected, result = (list(each[f"{name} {what}"]) for each in both)
            # Keras numbers the models of a process.
            assert [path.split("/", 1)[-1] for path in result] == [
                path.split("/", 1)[-1] for path in expected
            ]
    assert "blocks.0.mlp.fc1.weight" in both[1]["deit names"]


def test_random_numbers_are_those_of_tensorflow(both):
    np.testing.assert_array_equal(both[1]["uniform"], both[0]["uniform"])


@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_those_of_tensorflow(both, name):
    expected, result = (each[f"{name} outputs"] for each in both)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_distillation_takes_the_steps_of_tensorflow(both):
    expected, result = (each["distilled"] for each in both)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)

    # That is, far closer than they moved.
    start = np.concatenate([np.ravel(weight) for weight in deit(dropout=0.1).get_weights()])
    assert np.abs(result - start).max() > 1e-2


def test_fit_and_evaluation_on_our_data_are_those_of_tensorflow(both):
    np.testing.assert_allclose(both[1]["history"], both[0]["history"], rtol=1e-5)


@pytest.mark.parametrize(("name", "file"), FILES)
def test_files_are_those_of_tensorflow(both, tensorflow, tmp_path, name, file):
    path = tensorflow / name / file
    fields = {"deit": {"variant": PLAIN, "image_size": (24, 16), "distilled": True, **DEIT}}
    fields["regnet"] = {"variant": "regnety_160", **REGNET}

    model = kd.load(path, **(fields[name] if file == "file.weights.h5" else {}))
    np.testing.assert_allclose(model.predict(X, verbose=0), both[0][f"{name} outputs"], atol=1e-6)

    # And the other way around: what is written here has the same contents.
    write(model, tmp_path / file)
    read = {"file.weights.h5": arrays_in_hdf5, "file.safetensors": load_file}.get(file)
    if read:
        written, expected = read(tmp_path / file), read(path)
        assert written.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_array_equal(written[key], value)


def arrays_in_hdf5(path):
    """The arrays of an HDF5 file, by their paths in it."""
    arrays = {}

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[...]

    with h5py.File(path) as file:
        file.visititems(add)
    return arrays


@pytest.mark.parametrize("file", ["deit_distilled.pth", "transformers_distilled.safetensors"])
def test_published_files_give_the_published_logits(golden, file):
    truth = golden(file.split(".")[0])
    model = load(GOLDENS / file, **({"image_size": 24} if "transformers" in file else {}))
    logits = kd.evaluation.predictor(model)(truth["images"])
    for head, expected in zip(logits, truth["logits"], strict=True):
        np.testing.assert_allclose(head, expected, atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
def test_plain_fit_matches_the_same_functional_model(name):
    """Keras' own training step, which a functional model around ours has."""
    model, inner = MODELS[name](), MODELS[name]()
    images = keras.Input((24, 16, 3))
    functional = keras.Model(images, inner(images))

    class_weight = {0: 2.0, 1: 0.5, 2: 0.0, 3: 1.0, 4: 1.0}
    for each in (model, functional):
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        each.compile(keras.optimizers.SGD(0.1), loss)
        each.fit(X, Y, class_weight=class_weight, batch_size=4, shuffle=False, verbose=0)

    for ours, expected in zip(model.get_weights(), functional.get_weights(), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_a_batch_of_zero_weight_changes_nothing():
    student = deit(drop_path=0.3)
    row = kd.Recipe("", "deit_digits", ema=0.9, weight_decay=0.5, warmup_epochs=0)
    student.compile(kd.optimizer(row, 10), kd.loss(row), distillation=kd.Distillation(regnet()))
    before = student.get_weights()
    logs = student.fit(X, Y, sample_weight=np.zeros(8), verbose=0).history

    assert np.isfinite(logs["loss"]).all()
    for weight, expected in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_frozen_layers_stay_as_they_are():
    for frozen in ("all", "blocks"):
        model = deit()
        if frozen == "all":
            model.trainable = False
        else:
            for block in model.blocks:
                block.trainable = False
        model.compile("adamw", kd.loss())
        before = model.get_weights()
        model.fit(X, Y, verbose=0)

        changed = [
            variable.path
            for variable, value in zip(model.weights, before, strict=True)
            if not np.array_equal(keras.ops.convert_to_numpy(variable), value)
        ]
        assert not any("blocks" in path for path in changed)
        assert bool(changed) == (frozen == "blocks")


def test_the_teacher_keeps_nothing_for_gradients():
    distillation = kd.Distillation(regnet())
    assert not distillation.target(keras.ops.convert_to_tensor(X), None).requires_grad

    seen = []

    class Teacher(kd.RegNetY):
        def features(self, images, training=False):
            features = super().features(images, training=training)
            seen.append(getattr(features, "requires_grad", False))
            return features

    student = deit()
    student.compile("sgd", kd.loss(), distillation=kd.Distillation(Teacher(**REGNET)))
    student.fit(X, Y, verbose=0)
    assert not any(seen)


def test_a_batch_that_does_not_divide_is_refused():
    model = deit()
    model.compile("sgd", kd.loss(), accumulate=3)
    with pytest.raises(kd.UserError, match="does not divide into 3 micro-batches"):
        model.fit(X, Y, batch_size=8, verbose=0)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float32"])
def test_precisions(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = deit()
        model.compile("adamw", kd.loss(), distillation=kd.Distillation(regnet()))
        assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()
        assert model.predict(X, verbose=0).dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


def test_what_needs_another_backend_is_refused_in_one_line(tmp_path):
    with pytest.raises(kd.UserError, match="recipes do not train on torch: set KERAS_BACKEND="):
        Strategy("auto")
    with pytest.raises(kd.UserError, match="recipes do not train on torch: set KERAS_BACKEND="):
        kd.train(recipe(), workdir=tmp_path / "run")
    for file in ("model.tflite", "model.onnx", "model"):
        with pytest.raises(kd.UserError, match="on TensorFlow: set KERAS_BACKEND=tensorflow"):
            kd.export(deit(), tmp_path / file)
    assert not list(tmp_path.iterdir())


def test_keras_has_the_private_names_we_rely_on():
    from keras_deit.utils import torch_private

    for entry in torch_private.NAMES:
        test_private_names.test_keras_has_the_private_names_we_rely_on(entry, [])
        test_private_names.test_the_lines_in_the_tables_are_those_of_the_original(entry)


def test_keras_still_refuses_dots_in_paths():
    """When this fails, ``allow_dots_in_names`` can go."""
    code = "import keras\nkeras.layers.Dense(2, name='a.b').build((None, 3))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "KeyError" in process.stderr
    assert "parameter name" in process.stderr


if __name__ == "__main__":
    main(*sys.argv[1:])
