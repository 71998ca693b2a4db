"""Every field of a recipe changes a run's results; how it is executed does not."""

import csv
import dataclasses
import functools

import keras
import numpy as np
import pytest

import keras_deit as kd
from tests.conftest import ROOT, recipe


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    keras.utils.set_random_seed(8)
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    kd.build("regnety_digits").save(path)
    return path


MODES = {
    "graph": ["jit_compile=false"],
    "eager": ["run_eagerly=true"],
    "xla": ["jit_compile=true"],
}


@pytest.fixture(scope="module")
def graph(teacher, tmp_path_factory, data_dir):
    return losses_of(teacher, tmp_path_factory.mktemp("graph"), data_dir, *MODES["graph"])


def columns(workdir, *names):
    with open(workdir / "metrics.csv", newline="") as lines:
        return [[float(row[name]) for name in names] for row in csv.DictReader(lines)]


# Three steps: one of warm-up, then the cosine.
SHORT = ("epochs=1", "warmup_epochs=0.34", "drop_path=0.3")


def losses_of(teacher, workdir, data_dir, *settings):
    settings = [*SHORT, f"teacher={teacher}", *settings]
    kd.train(recipe("digits_hard", *settings), workdir, data_dir, quiet=True)
    return columns(workdir, "loss", "class_loss", "distillation_loss")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eager", "xla"])
def test_eager_graph_and_xla_give_equal_losses(teacher, graph, tmp_path, data_dir, mode):
    np.testing.assert_allclose(
        losses_of(teacher, tmp_path, data_dir, *MODES[mode]), graph, rtol=1e-5
    )


@pytest.mark.slow
def test_a_repeated_run_gives_equal_losses(teacher, graph, tmp_path, data_dir):
    assert losses_of(teacher, tmp_path, data_dir, *MODES["graph"]) == graph


# Another value of each field, which must change the losses of a short run.
CHANGES = {
    "train_split": "validation",
    "train_fraction": "0.2",
    "subset": "1",
    "passes": "3",
    "batch_size": "50",
    "crop": "padded",
    "pad": "1",
    "flip": "1",
    "rand_augment": "true",
    "erasing": "1",
    "repeats": "3",
    "mix_group": "10",
    "mixup": "0.2",
    "cutmix": "0",
    "label_smoothing": "0.3",
    "epochs": "2",
    "lr": "0.1",
    "min_lr": "1e-2",
    "warmup_lr": "1e-2",
    "warmup_epochs": "0",
    "weight_decay": "5",
    "no_decay": "bias",
    "drop_path": "0.6",
    "dropout": "0.3",
    "trainable": "heads",
    "optimizer": "sgd",
    "momentum": "0.1",
    "schedule": "epoch",
    "clip_norm": "0.1",
    "precision": "mixed_bfloat16",
    "distillation": "soft",
    "alpha": "0.9",
    "tau": "4",
    "reduction": "elements",
    "seed": "1",
}
BESIDE = {  # other fields, without which a field has no effect
    "pad": ["crop=padded"],
    "tau": ["distillation=soft"],
    "reduction": ["distillation=soft"],
    "no_decay": ["weight_decay=5"],
    "momentum": ["optimizer=sgd"],
}
ELSEWHERE = {  # fields that change no loss of such a run, and the test of each
    "note": "test_a_run_writes_its_files",
    "variant": "test_the_recipes_variant_is_trained",
    "dataset": "test_errors_name_missing_datasets",
    "image_size": "test_wrong_recipes_are_refused",
    "eval_crop": "test_eval_crop_is_the_center_crop_ratio",
    "upright": "test_a_run_has_the_preprocessing_of_its_start_and_its_recipe",
    "max_damaged": "test_too_many_unreadable_images_stop_training",
    "validation_split": "test_scores_are_of_the_validation_split",
    "teacher": "test_another_teacher_changes_the_losses",
    "start": "test_a_run_starts_from_given_weights",
    "new_heads": "test_new_heads_are_new_for_the_same_number_of_classes",
    "classes": "test_invalid_settings_fail_before_training",
    "token": "test_a_class_head_can_learn_from_a_teacher",
    "accumulate": "test_accumulation_gives_equal_losses",
    "ema": "test_a_moving_average_is_kept_beside_the_weights",
    "strategy": "test_two_replicas_match_one_device",
    "save_minutes": "test_a_killed_run_gives_identical_results",
    "keep": "test_the_last_checkpoints_are_kept",
    "run_eagerly": "test_eager_graph_and_xla_give_equal_losses",
    "jit_compile": "test_eager_graph_and_xla_give_equal_losses",
}


def test_every_field_of_a_recipe_is_tested():
    fields = {field.name for field in dataclasses.fields(kd.Recipe)}
    assert set(CHANGES) | set(ELSEWHERE) == fields
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in ELSEWHERE.values() if f"def {name}(" not in tests] == []


@pytest.fixture(scope="module")
def eager_losses(teacher, tmp_path_factory, data_dir):
    """The losses of a run with settings; those of a run that was made before are kept."""

    @functools.cache
    def losses(*settings):
        workdir = tmp_path_factory.mktemp("run")
        return losses_of(teacher, workdir, data_dir, *MODES["eager"], *settings)

    return losses


@pytest.mark.slow
@pytest.mark.parametrize("field", CHANGES)
def test_every_field_changes_the_training(eager_losses, field):
    beside = BESIDE.get(field, [])
    before = eager_losses(*beside)
    changed = eager_losses(*beside, f"{field}={CHANGES[field]}")
    assert len(changed) != len(before) or np.abs(np.subtract(changed, before)).max() > 1e-6


@pytest.mark.slow
def test_another_teacher_changes_the_losses(eager_losses, tmp_path):
    keras.utils.set_random_seed(9)
    kd.build("regnety_digits").save(tmp_path / "other.keras")
    assert eager_losses(f"teacher={tmp_path / 'other.keras'}") != eager_losses()


@pytest.mark.slow
def test_scores_are_of_the_validation_split(teacher, tmp_path, data_dir):
    def scores(split):
        losses_of(teacher, tmp_path / split, data_dir, *MODES["eager"], f"validation_split={split}")
        return columns(tmp_path / split, "val_accuracy", "val_loss")

    assert scores("validation") != scores("test")


@pytest.mark.slow
def test_accumulation_gives_equal_losses(teacher, tmp_path, data_dir):
    settings = [*MODES["graph"], "accumulate=4", "drop_path=0"]
    accumulated = losses_of(teacher, tmp_path / "accumulated", data_dir, *settings)
    at_once = losses_of(teacher, tmp_path / "at_once", data_dir, *settings[:1], "drop_path=0")
    np.testing.assert_allclose(accumulated, at_once, rtol=1e-5)
