import dataclasses

import pytest

import keras_deit as kd
from keras_deit.configs.recipe import Recipe


def test_rows_have_notes_and_known_variants():
    for name, row in kd.RECIPES.items():
        assert f"--recipe={name} " in row.note, name
        assert row.variant in kd.VARIANTS, name
        assert row.teacher is None or row.teacher in {**kd.RECIPES, **kd.VARIANTS}, name


@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ("lr=1e-3", "lr", 1e-3),
        ("epochs=7", "epochs", 7),
        ("run_eagerly=true", "run_eagerly", True),
        ("jit_compile=false", "jit_compile", "false"),
        ("teacher=some.keras", "teacher", "some.keras"),
        ("no_decay=bias,gamma", "no_decay", ("bias", "gamma")),
        ("no_decay=", "no_decay", ()),
        ("note=a=b", "note", "a=b"),
    ],
)
def test_settings_take_their_fields_type(setting, field, value):
    row = kd.override(kd.RECIPES["digits_hard"], [setting])
    assert getattr(row, field) == value
    assert type(getattr(row, field)) is type(value)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("learning_rate=1", "unknown field 'learning_rate': expected one of note, variant"),
        ("lr", "expected field=value"),
        ("lr=fast", "expected a number"),
        ("lr=nan", "above 0"),
        ("lr=inf", "below 1e\\+30"),
        ("epochs=1.5", "a whole number"),
        ("epochs=0", "above 0"),
        ("epochs=-1", "above 0"),
        ("run_eagerly=maybe", "true, false"),
        ("distillation=firm", "none, soft, hard, label"),
        ("alpha=2", "between 0 and 1"),
        ("train_fraction=0", "above 0"),
        ("drop_path=1", "below 1"),
        ("label_smoothing=1", "below 1"),
        ("seed=99999999999999", "below 4.29"),
        ("distillation=none", "expected a teacher"),
        ("weight_decay=-1", "from 0"),
    ],
)
def test_wrong_settings_say_what_is_expected(setting, says):
    with pytest.raises(kd.UserError, match=says):
        kd.override(kd.RECIPES["digits_hard"], [setting])


def test_a_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        kd.RECIPES["digits_hard"].lr = 1


def test_base_row_is_the_papers_table_9():
    base = Recipe(note="", variant="deit_base_patch16_224")
    expected = {"epochs": 300, "batch_size": 1024, "lr": 5e-4, "weight_decay": 0.05}
    expected |= {"warmup_epochs": 5, "label_smoothing": 0.1, "drop_path": 0.1}
    expected |= {"mixup": 0.8, "cutmix": 1.0, "min_lr": 1e-5, "warmup_lr": 1e-6}
    assert {name: getattr(base, name) for name in expected} == expected
