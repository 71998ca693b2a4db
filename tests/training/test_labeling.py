"""Labeling: targets that are stored once train every student as the live teacher does."""

import json
import signal
import time

import keras
import numpy as np
import pytest

import keras_deit as kd
from keras_deit.data import targets
from keras_deit.weights.names import variables
from tests.conftest import recipe


def save_teacher(path, seed=0, variant="regnety_digits"):
    """A teacher of random weights, whose decisions differ from image to image: its biases make all
    classes equally large in the mean over images."""
    keras.utils.set_random_seed(seed)
    model = kd.build(variant, num_classes=10)
    images = np.random.default_rng(seed).normal(size=(256, 8, 8, 3)).astype("float32")
    kernel, bias = (x for name, x in variables(model).items() if name.startswith("head."))
    kernel.assign(100 * kernel)
    bias.assign(-np.mean(model.predict(images, verbose=0), axis=0))
    model.save(path)
    return path


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher") / "teacher.keras")


# Trains with a live teacher, labels, trains from the targets, and prints the weights' difference.
PROGRAM = """
import sys
import numpy as np
import keras_deit as kd

folder, data_dir, kind, *settings = sys.argv[1:]
recipe = kd.override(kd.RECIPES["digits_" + kind], settings)
live = kd.train(recipe, folder + "/live", data_dir, quiet=True)
assert kd.label(recipe, folder + "/targets", data_dir, quiet=True)
recipe = kd.override(recipe, ["targets=" + folder + "/targets"])
stored = kd.train(recipe, folder + "/stored", data_dir, quiet=True)
pairs = zip(live.get_weights(), stored.get_weights())
print(max(np.abs(a - b).max() for a, b in pairs))
"""
SHORT = ("epochs=2", "passes=4", "batch_size=60", "warmup_epochs=1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "kind", "settings", "most"),
    [
        ("tensorflow", "hard", [], 0),
        ("tensorflow", "hard", ["strategy=mirrored", "accumulate=3"], 0),
        ("tensorflow", "soft", [], 2e-4),  # float16 is what is stored
        ("jax", "hard", [], 0),
    ],
)
def test_stored_targets_train_as_the_live_teacher(
    backend, kind, settings, most, forks, teacher, tmp_path, data_dir
):
    arguments = [f"teacher={teacher}", *SHORT, *settings]
    program = ["-c", PROGRAM, str(tmp_path), str(data_dir), kind, *arguments]
    done = forks.run(program, environ={"KERAS_BACKEND": backend})
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.splitlines()[0]) <= most

    from safetensors.numpy import load_file

    arrays = load_file(targets.epoch_file(tmp_path / "targets", 0))
    assert arrays["classes"].shape[:2] == (6, 60)
    assert len(np.unique(arrays["classes"])) > 3  # else any targets would do


LABEL = """
import sys
import keras_deit as kd
from keras_deit.training import labeling

labeling.SAVE_SECONDS = 0
folder, data_dir, *settings = sys.argv[1:]
kd.label(kd.override(kd.RECIPES["digits_soft"], settings), folder, data_dir)
"""


@pytest.mark.slow
def test_killed_and_shared_labeling_gives_the_same_bytes(forks, teacher, tmp_path, data_dir):
    settings = [f"teacher={teacher}", "epochs=6", "passes=40", "batch_size=60"]
    row = kd.override(kd.RECIPES["digits_soft"], settings)
    kd.label(row, tmp_path / "uninterrupted", data_dir, quiet=True)

    folder = tmp_path / "killed"
    program = ["-c", LABEL, str(folder), str(data_dir), *settings]
    for epoch in (0, 2):
        process = forks.start(program)
        unfinished = folder / f"epoch-{epoch:04}.unfinished.safetensors"
        end = time.monotonic() + 60
        while not unfinished.exists() and time.monotonic() < end:
            assert not (folder / "epoch-0005.safetensors").exists()
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        assert unfinished.exists()

    outputs = [process.wait(120) for process in [forks.start(program) for _ in range(2)]]
    assert [done.returncode for done in outputs] == [0, 0], outputs[0].stderr[-2000:]
    assert "targets of 6 epochs" in outputs[0].stdout + outputs[1].stdout

    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names == {"targets.json", *(f"epoch-{epoch:04}.safetensors" for epoch in range(6))}
    assert not list(folder.glob(".partial*"))
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "uninterrupted" / name).read_bytes()


def test_a_deleted_epoch_is_labeled_again(teacher, tmp_path, data_dir, capsys):
    row = recipe("digits_hard", f"teacher={teacher}")
    kd.label(row, tmp_path, data_dir)
    assert "Labeling 2 epochs of 180 views of digits by" in capsys.readouterr().out
    path = targets.epoch_file(tmp_path, 1)
    content = path.read_bytes()
    path.unlink()
    kd.label(row, tmp_path, data_dir)
    assert path.read_bytes() == content

    path.write_bytes(content[:-1])
    kd.label(row, tmp_path, data_dir)
    assert path.read_bytes() == content
    assert (
        f"{path} was changed after it was written: it is labeled again" in capsys.readouterr().out
    )


def test_a_folder_has_targets_of_one_recipe_and_teacher(teacher, tmp_path, data_dir):
    kd.label(recipe("digits_hard", f"teacher={teacher}"), tmp_path / "targets", data_dir)
    other = save_teacher(tmp_path / "other.keras", seed=1)
    for settings, message in (
        ([f"teacher={other}"], "holds targets of other teachers, or other weights"),
        ([f"teacher={teacher}", "seed=1"], "are of other views: seed 0 there, 1 in this recipe"),
        ([f"teacher={teacher}", "epochs=3"], r"another recipe \(epochs 2 -> 3\)"),
        ([f"teacher={teacher}", "distillation=soft"], "'hard' -> 'soft'"),
    ):
        with pytest.raises(kd.UserError, match=message):
            kd.label(recipe("digits_hard", *settings), tmp_path / "targets", data_dir)

    # A student knows its teacher's file by its content.
    settings = [f"targets={tmp_path / 'targets'}", f"teacher={other}"]
    with pytest.raises(kd.UserError, match=r"are of another teacher: .*teacher.keras there"):
        kd.data.train(recipe("digits_hard", *settings), data_dir)
    moved = tmp_path / "moved.keras"
    moved.write_bytes(teacher.read_bytes())
    settings = [f"targets={tmp_path / 'targets'}", f"teacher={moved}"]
    assert kd.data.train(recipe("digits_hard", *settings), data_dir).steps == 3


def test_top_k_is_an_integer_and_no_more_than_the_classes(teacher, tmp_path, data_dir):
    row = recipe("digits_soft", f"teacher={teacher}")
    for wrong in (0, 1.5, "3", None):
        with pytest.raises(kd.UserError, match=f"top_k {wrong!r}: expected an integer"):
            kd.label(row, tmp_path, data_dir, top_k=wrong)
    kd.label(row, tmp_path, data_dir, top_k=99)
    assert kd.label(row, tmp_path, data_dir, top_k=10)
    assert json.loads((tmp_path / "targets.json").read_text())["top_k"] == 10


def test_only_a_recipe_with_a_teacher_is_labeled(tmp_path, data_dir):
    with pytest.raises(
        kd.UserError, match="teacher=none with distillation=none: expected a recipe"
    ):
        kd.label(recipe("digits_none"), tmp_path, data_dir)


@pytest.mark.slow
def test_targets_of_fewer_epochs_train_longer(teacher, tmp_path, data_dir, capsys):
    row = recipe("digits_hard", f"teacher={teacher}", "target_epochs=1", "epochs=3")
    kd.label(row, tmp_path / "targets", data_dir)
    assert json.loads((tmp_path / "targets" / "targets.json").read_text())["epochs"] == 1
    row = kd.override(row, [f"targets={tmp_path / 'targets'}", "teacher=none"])
    kd.train(row, tmp_path / "run", data_dir)
    printed = capsys.readouterr().out
    assert "the views of the first 1 epochs are seen again and again" in printed
    assert f"stored targets {tmp_path / 'targets'}, hard through the token" in printed


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_several_teachers_label_as_they_teach(kind, teacher, tmp_path, data_dir):
    second = save_teacher(tmp_path / "second.keras", seed=1)
    third = save_teacher(tmp_path / "third.keras", seed=2, variant="deit_digits")
    row = recipe(f"digits_{kind}", f"teacher={teacher},{second},{third}")
    kd.label(row, tmp_path / "targets", data_dir, top_k=10)

    models = [kd.load(path) for path in row.teacher]
    batches = kd.data.train(kd.override(row, [f"targets={tmp_path / 'targets'}"]), data_dir)
    images, labels = next(iter(batches))
    logits = np.stack([model.predict(images, verbose=0) for model in models])
    probabilities = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities /= probabilities.sum(-1, keepdims=True)
    mean = probabilities.mean(0)
    stored = labels["targets"].numpy()
    if kind == "soft":
        np.testing.assert_allclose(np.exp(stored), mean, atol=2e-3)
        return

    votes = np.stack([logits.argmax(-1) == c for c in range(10)]).sum(1).T  # (images, classes)
    best = votes == votes.max(-1, keepdims=True)
    expected = np.where(best, mean, -1).argmax(-1)
    np.testing.assert_array_equal(stored.argmax(-1), expected)
