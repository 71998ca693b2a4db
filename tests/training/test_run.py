"""A training run: its files, its errors, what it starts from and what it returns."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest

import keras_deit as kd
from keras_deit.configs.preprocessing import IMAGENET, Preprocessing
from tests.conftest import recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir):
    """A finished distillation from a recipe, its teacher trained on the way: (workdir, model)."""
    workdir = tmp_path_factory.mktemp("run") / "hard"
    short = dataclasses.replace(kd.RECIPES["digits_teacher"], epochs=2, passes=2, batch_size=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(kd.RECIPES, "digits_teacher", short)
        model = kd.train(recipe("digits_hard", "drop_path=0.3"), workdir, data_dir)
    return workdir, model


@pytest.mark.slow
def test_a_run_writes_its_files(run):
    workdir, model = run
    files = {path.name for path in workdir.iterdir()}
    texts = {"plan.json", "metrics.csv", "report.md", "scores.json", "curves.png", ".lock"}
    assert files == texts | {"checkpoints", "tensorboard", "best.keras", "last.keras", "teacher"}
    assert {p.name for p in (workdir / "teacher").iterdir()} == files - {"teacher"}
    assert "Hard distillation" in (workdir / "report.md").read_text()
    again = keras.saving.load_model(workdir / "last.keras")
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    np.testing.assert_array_equal(again(images), model(images))
    plan = json.loads((workdir / "plan.json").read_text())
    assert plan["recipe"]["distillation"] == "hard"
    assert plan["run"]["steps"] == "3 x 2 epochs (2 passes each)"
    with open(workdir / "metrics.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    columns = {"loss", "class_loss", "distillation_loss", "agreement", "accuracy", "val_accuracy"}
    columns |= {"val_class_accuracy", "val_distillation_accuracy", "val_top5", "val_loss"}
    assert set(rows[0]) == columns | {"epoch", "learning_rate", "images_per_second"}


class Recorder(keras.callbacks.Callback):
    """Keeps the calls of a run."""

    def __init__(self):
        super().__init__()
        self.steps, self.epochs = [], {}

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(logs["loss"])

    def on_epoch_end(self, epoch, logs=None):
        self.epochs[epoch] = logs["val_accuracy"]


@pytest.mark.slow
def test_callbacks_are_called_with_the_validation(tmp_path, data_dir):
    recorder = Recorder()
    row = recipe("digits_none", "run_eagerly=true")
    kd.train(row, tmp_path, data_dir, quiet=True, callbacks=[recorder])
    assert len(recorder.steps) == 6
    with open(tmp_path / "metrics.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [recorder.epochs[i] for i in range(2)] == [float(row["val_accuracy"]) for row in rows]


@pytest.mark.slow
def test_a_finished_run_is_returned_without_training(run, data_dir, capsys):
    workdir, model = run
    before = (workdir / "last.keras").stat().st_mtime_ns
    again = kd.train(recipe("digits_hard", "drop_path=0.3"), workdir, data_dir)
    assert (workdir / "last.keras").stat().st_mtime_ns == before
    assert "is finished" in capsys.readouterr().out
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


@pytest.mark.slow
def test_a_workdir_belongs_to_one_recipe(run, data_dir):
    with pytest.raises(kd.UserError, match=r"a different recipe \(epochs 2 -> 3\)"):
        kd.train(recipe("digits_hard", "drop_path=0.3", "epochs=3"), run[0], data_dir)


EAGER = "run_eagerly=true"


@pytest.mark.slow
def test_the_recipes_variant_is_trained(run):
    assert json.loads((run[0] / "plan.json").read_text())["run"]["model"].startswith(
        "deit_digits_distilled, "
    )


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("digits_none", ["variant=deit_huge"], "unknown variant 'deit_huge': expected one of"),
        ("digits_hard", ["teacher=nobody"], "checkpoint file, or a recipe: digits_teacher"),
        ("digits_hard", ["teacher=nothing.keras"], "nothing.keras': expected a published"),
        ("digits_none", ["variant=deit_tiny_patch16_224"], "not a whole number of 16-pixel patch"),
        ("digits_none", ["dataset=no_such_set"], "no dataset 'no_such_set'"),
        ("digits_none", ["train_split=training"], "train, validation, test"),
        ("digits_none", ["train_split=train[:0]"], "it has train, validation, test"),
        ("digits_none", ["crop=padded", "pad=9"], "at most the image's side, 8"),
        ("digits_none", ["image_size=15"], "not a whole number of 2-pixel patches"),
        ("digits_none", ["start=nothing.keras"], "no file nothing.keras"),
        ("digits_teacher", ["accumulate=2"], "cannot accumulate gradients"),
    ],
)
def test_wrong_recipes_are_refused(tmp_path, data_dir, name, settings, message):
    with pytest.raises(kd.UserError, match=message) as error:
        kd.train(kd.override(kd.RECIPES[name], settings), tmp_path, data_dir)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "metrics.csv").exists()


@pytest.mark.slow
def test_nan_weights_at_the_end_fail_the_run(tmp_path, data_dir):
    diverging = ["lr=1e29", "warmup_epochs=0", "epochs=1", "passes=1", EAGER]
    message = r"the validation loss is nan after epoch 1, step 1; there is no checkpoint yet"
    with pytest.raises(kd.UserError, match=message):
        kd.train(recipe("digits_none", *diverging), tmp_path, data_dir, quiet=True)
    assert not (tmp_path / "last.keras").exists()


@pytest.mark.slow
def test_the_learning_rate_is_for_the_effective_batch(tmp_path, data_dir):
    settings = ["batch_size=512", "passes=1", "epochs=1", "optimizer=sgd", "momentum=0"]
    kd.train(recipe("digits_none", *settings), tmp_path, data_dir, quiet=True)
    run = json.loads((tmp_path / "plan.json").read_text())["run"]
    assert run["devices"] == "1 CPU device"
    assert run["batch"] == "90 images (all there are, fewer than 512)"
    assert "0.00703125 at 90" in run["learning rate"]
    with pytest.raises(kd.UserError, match="batch_size=90: expected a multiple of accumulate=64"):
        kd.train(recipe("digits_none", *settings, "accumulate=64"), tmp_path / "micro", data_dir)


@pytest.mark.slow
def test_checkpoints_of_another_recipe_are_not_resumed(tmp_path, data_dir):
    kd.train(recipe("digits_none", "epochs=1", "passes=1"), tmp_path, data_dir, quiet=True)
    for name in ("plan.json", "last.keras"):
        (tmp_path / name).unlink()
    with pytest.raises(kd.UserError, match=r"started with a different recipe \(seed 0 -> 1\)"):
        kd.train(recipe("digits_none", "epochs=1", "passes=1", "seed=1"), tmp_path, data_dir)


@pytest.mark.slow
def test_a_nan_loss_stops_the_run(tmp_path, data_dir):
    message = (
        r"the loss is (nan|inf) after epoch 1, step \d; there is no checkpoint yet: in another"
    )
    with pytest.raises(kd.UserError, match=message):
        kd.train(recipe("digits_none", "lr=1e29", "warmup_epochs=0", EAGER), tmp_path, data_dir)
    assert not (tmp_path / "last.keras").exists()


@pytest.mark.slow
def test_a_run_starts_from_given_weights(run, tmp_path, data_dir):
    start = run[0] / "best.keras"
    frozen = ["lr=1e-12", "warmup_lr=0", "min_lr=0", "weight_decay=0", "epochs=1"]
    row = recipe("digits_none", f"start={start}", "variant=deit_digits_distilled", *frozen)
    model = kd.train(row, tmp_path, data_dir, quiet=True)
    for one, two in zip(model.get_weights(), kd.load(start).get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-7)


@pytest.mark.slow
def test_a_class_head_can_learn_from_a_teacher(run, tmp_path, data_dir):
    teacher = f"teacher={run[0] / 'teacher' / 'last.keras'}"
    row = recipe("digits_hard", "variant=deit_digits", "token=false", teacher)
    assert not kd.train(row, tmp_path, data_dir, quiet=True).distilled
    assert "through the class head" in (tmp_path / "report.md").read_text()
    with pytest.raises(kd.UserError, match="which token=False leaves untrained"):
        kd.train(recipe("digits_hard", "token=false", teacher), tmp_path / "both", data_dir)


@pytest.mark.slow
def test_a_moving_average_is_kept_beside_the_weights(tmp_path, data_dir):
    row = recipe("digits_none", "ema=0.5", "epochs=1")
    last = kd.train(row, tmp_path, data_dir, quiet=True)
    average = kd.load(tmp_path / "average.keras")
    plain = kd.train(recipe("digits_none", "epochs=1"), tmp_path / "plain", data_dir, quiet=True)
    np.testing.assert_array_equal(last.get_weights()[0], plain.get_weights()[0])
    assert np.abs(average.get_weights()[0] - last.get_weights()[0]).max() > 1e-4
    assert "| average |" in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_a_regnet_cannot_be_distilled(run, tmp_path, data_dir):
    teacher = f"teacher={run[0] / 'teacher' / 'last.keras'}"
    with pytest.raises(kd.UserError, match="no distillation token"):
        kd.train(recipe("digits_hard", "variant=regnety_digits", teacher), tmp_path, data_dir)
    with pytest.raises(kd.UserError, match="no distillation head"):
        kd.train(recipe("digits_hard", "variant=deit_digits", teacher), tmp_path, data_dir)


def test_an_unusable_workdir_is_named(tmp_path, data_dir):
    (tmp_path / "file").touch()
    with pytest.raises(kd.UserError, match="expected a folder to write in"):
        kd.train(recipe(), tmp_path / "file" / "run", data_dir)
    for content in ("[]", '{"recipe": 5}', '{"recipe": null}'):
        (tmp_path / "plan.json").write_text(content)
        with pytest.raises(kd.UserError, match="was not written by keras_deit"):
            kd.train(recipe(), tmp_path, data_dir)
    with pytest.raises(kd.UserError, match="an empty workdir"):
        kd.train(recipe(), "", data_dir)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    for content in (b"", b"not a model", b"\x80\x04cos\nsystem\n."):
        (tmp_path / "bad.keras").write_bytes(content)
        with pytest.raises(kd.UserError, match=r"bad\.keras"):
            kd.load(tmp_path / "bad.keras")


@pytest.mark.slow
def test_a_run_has_the_preprocessing_of_its_start_and_its_recipe(tmp_path, data_dir):
    """Its data too: a run that changes nothing scores what its start scores on such images."""
    half = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.5, 0.5))
    names = tuple("0123456789")
    start = kd.DeiT(8, 2, 64, 2, 4, 2.0, 10, False, class_names=names, preprocessing=half)
    start.save(tmp_path / "start.keras")
    frozen = ["lr=1e-12", "warmup_lr=0", "min_lr=0", "weight_decay=0", "epochs=1", "upright=true"]
    row = recipe("digits_none", f"start={tmp_path / 'start.keras'}", "variant=deit_digits", *frozen)
    model = kd.train(row, tmp_path / "run", data_dir, quiet=True)
    assert model.preprocessing == dataclasses.replace(half, upright=True)

    scores = json.loads((tmp_path / "run" / "scores.json").read_text())["last"]["fused"]
    valid = kd.data.evaluation(row, data_dir, preprocessing=half)
    assert scores["loss"] == pytest.approx(kd.evaluate(start, valid)["fused"].loss, rel=1e-5)
    other = kd.evaluate(start, kd.data.evaluation(row, data_dir))["fused"].loss
    assert abs(scores["loss"] - other) > 1e-3

    training = kd.data.train(row, data_dir, preprocessing=half)
    images, others = (next(iter(b))[0].numpy() for b in (training, kd.data.train(row, data_dir)))
    pixels = others * IMAGENET.std + IMAGENET.mean
    np.testing.assert_allclose(images, (pixels - half.mean) / half.std, atol=1e-5)
