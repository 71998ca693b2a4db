"""Every field of a recipe changes a training's results; how it is executed does not."""

import csv
import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deit as kd
from keras_deit.training import from_recipe
from tests.conftest import ROOT, recipe

EAGER, GRAPH, XLA = "run_eagerly=true", "jit_compile=false", "jit_compile=true"
LOSSES = ("loss", "class_loss", "distillation_loss")
# Three steps: one of warm-up, then the cosine.
SHORT = ("epochs=1", "warmup_epochs=0.34", "drop_path=0.3")


def make_teacher(seed):
    keras.utils.set_random_seed(seed)
    return kd.build("regnety_digits")


@pytest.fixture(scope="module")
def teacher():
    return make_teacher(8)


@pytest.fixture(scope="module")
def losses_of(teacher, data_dir):
    """A function of a recipe's settings: the losses of each epoch of its training. The losses of a
    training with the same settings are kept."""

    @functools.cache
    def losses(*settings, teacher=teacher):
        row = recipe("digits_hard", *SHORT, *settings)
        batches = kd.data.train(row, data_dir)
        model = from_recipe.build(row, batches.class_names, batches.steps, [teacher])
        history = model.fit(batches, epochs=row.epochs, shuffle=False, verbose=0).history
        return [history[name] for name in LOSSES]

    return losses


@pytest.fixture(scope="module")
def run_of(teacher, tmp_path_factory, data_dir):
    """A function of a recipe's settings: the columns of ``metrics.csv`` of its run."""
    folder = tmp_path_factory.mktemp("runs")
    teacher.save(folder / "teacher.keras")

    @functools.cache
    def columns(*settings):
        row = recipe("digits_hard", *SHORT, f"teacher={folder / 'teacher.keras'}", *settings)
        workdir = folder / str(len(settings))
        kd.train(row, workdir, data_dir, quiet=True)
        with open(workdir / "metrics.csv", newline="") as lines:
            rows = list(csv.DictReader(lines))
        return {name: [float(row[name]) for row in rows] for name in rows[0]}

    return columns


@pytest.mark.slow
@pytest.mark.parametrize("mode", [EAGER, XLA])
def test_eager_graph_and_xla_give_equal_losses(losses_of, mode):
    np.testing.assert_allclose(losses_of(mode), losses_of(GRAPH), rtol=1e-5)


@pytest.mark.slow
def test_a_repeated_training_gives_equal_losses(losses_of):
    assert losses_of.__wrapped__(GRAPH) == losses_of(GRAPH)


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
    "data_seed": "1",
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
    "target_epochs": "test_epochs_of_views_are_seen_in_turn",
    "targets": "test_stored_targets_train_as_the_live_teacher",
    "start": "test_a_run_starts_from_given_weights",
    "new_heads": "test_new_heads_are_new_for_the_same_number_of_classes",
    "classes": "test_invalid_settings_fail_before_training",
    "token": "test_a_class_head_can_learn_from_a_teacher",
    "accumulate": "test_accumulation_gives_equal_losses",
    "recompute": "test_recomputed_activations_give_equal_losses",
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


@pytest.mark.slow
@pytest.mark.parametrize("field", CHANGES)
def test_every_field_changes_the_training(losses_of, field):
    beside = BESIDE.get(field, [])
    before = losses_of(EAGER, *beside)
    changed = losses_of(EAGER, *beside, f"{field}={CHANGES[field]}")
    assert len(changed[0]) != len(before[0]) or np.abs(np.subtract(changed, before)).max() > 1e-6


@pytest.mark.slow
def test_another_teacher_changes_the_losses(losses_of):
    assert losses_of(EAGER, teacher=make_teacher(9)) != losses_of(EAGER)


@pytest.fixture(scope="module")
def combined():
    """Other values of all fields together, without those that leave others without effect."""
    apart = {"trainable", "optimizer", "momentum", "crop", "pad", "warmup_epochs"}
    apart |= {"train_split", "train_fraction"}  # which take more images
    return [GRAPH, *(f"{name}={value}" for name, value in CHANGES.items() if name not in apart)]


@pytest.mark.slow
def test_a_run_is_the_training_of_all_its_fields(losses_of, run_of, combined):
    columns = run_of(*combined)
    losses = [columns[name] for name in LOSSES]
    np.testing.assert_allclose(losses, losses_of(*combined), rtol=1e-6)


@pytest.mark.slow
def test_scores_are_of_the_validation_split(run_of, combined):
    default, other = run_of(*combined), run_of(*combined, "validation_split=test")
    for name in ("val_accuracy", "val_loss"):
        assert default[name] != other[name]


@pytest.mark.slow
def test_recomputed_activations_give_equal_losses(losses_of):
    recomputed = losses_of(GRAPH, "recompute=true")
    np.testing.assert_allclose(recomputed, losses_of(GRAPH), rtol=1e-6)

    model = from_recipe.build(recipe("digits_none", "recompute=true"), tuple("0123456789"), 3)
    x = tf.zeros((2, 8, 8, 3)), tf.zeros((2, 10)), None, tf.constant(2.0)
    own = from_recipe.build(recipe("digits_none"), tuple("0123456789"), 3)
    counts = [
        sum(
            "MatMul" in operation.type
            for operation in tf.function(each._gradients)
            .get_concrete_function(*x)
            .graph.get_operations()
        )
        for each in (model, own)
    ]
    assert counts[0] > counts[1]


@pytest.mark.slow
def test_accumulation_gives_equal_losses(losses_of):
    settings = [GRAPH, "drop_path=0"]
    accumulated = losses_of(*settings, "accumulate=4")
    np.testing.assert_allclose(accumulated, losses_of(*settings), rtol=1e-5)
