"""Rows of RECIPES are complete and findable; ``override`` is typed and bounded."""

import dataclasses
import re
import typing

import pytest

import keras_deit as kd
from keras_deit.configs import recipes
from keras_deit.configs.imagenet import IMAGENET
from keras_deit.configs.recipe import Bounds
from tests.conftest import ROOT


@pytest.mark.parametrize("name", kd.RECIPES)
def test_a_recipe_has_its_note_and_known_names(name):
    row = kd.RECIPES[name]
    summary, command = row.note.split(" Command: ")
    assert len(summary) > 10
    assert f"--recipe={name} " in command
    assert row.variant in kd.VARIANTS
    assert set(row.teacher) <= {*kd.RECIPES, *kd.VARIANTS}
    assert row.start is None or kd.VARIANTS[row.start].published


@pytest.mark.parametrize("name", IMAGENET)
def test_a_note_holds_the_papers_score_and_its_table(name):
    note = kd.RECIPES[name].note
    score = re.search(r"Expected top-1: ([\d.]+)% \(paper, Table \d\)\. ", note)
    assert score or "Expected top-1: not published." in note


def test_an_unknown_recipe_raises():
    assert recipes.find("deit_tiny") is kd.RECIPES["deit_tiny"]
    with pytest.raises(kd.UserError, match="unknown recipe 'deit': expected one of digits_teacher"):
        recipes.find("deit")


METHODS = ("", "_soft", "_hard", "_distilled", "_distilled_1000", "_384", "_distilled_384")


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_each_size_of_the_paper_has_each_of_its_methods(size):
    assert kd.RECIPES.keys() >= {f"deit_{size}{method}" for method in METHODS}


@pytest.mark.parametrize("name", [*kd.RECIPES, *kd.VARIANTS])
def test_a_search_for_a_full_name_finds_its_row(name):
    files = (ROOT / "keras_deit" / "configs").glob("*.py")
    rows = sum(file.read_text().count(f'    "{name}": ') for file in files)
    assert rows == 1


@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ("lr=1e-3", "lr", 1e-3),
        ("epochs=7", "epochs", 7),
        ("run_eagerly=true", "run_eagerly", True),
        ("token=false", "token", False),
        ("jit_compile=false", "jit_compile", "false"),
        ("teacher=a.keras,b.keras", "teacher", ("a.keras", "b.keras")),
        ("start=none", "start", None),
        ("dataset=none", "dataset", "none"),
        ("no_decay=bias,gamma", "no_decay", ("bias", "gamma")),
        ("no_decay=", "no_decay", ()),
        ("note=a=b", "note", "a=b"),
    ],
)
def test_settings_take_the_type_of_their_field(setting, field, value):
    row = kd.override(kd.RECIPES["digits_hard"], [setting])
    assert getattr(row, field) == value
    assert type(getattr(row, field)) is type(value)


@pytest.mark.parametrize(
    "setting",
    [
        *("alpha=0", "alpha=1", "eval_crop=1", "drop_path=0", "mixup=0", "warmup_epochs=0.5"),
        *("seed=0", "seed=4294967295", "epochs=1", "mix_group=0"),
    ],
)
def test_the_ends_of_a_range_are_in_it(setting):
    kd.override(kd.RECIPES["digits_hard"], [setting])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learning_rate=1", "unknown field 'learning_rate': expected one of note, variant"),
        ("lr", "setting 'lr': expected field=value"),
        ("lr=fast", "lr='fast': expected a number above 0, below 1e30"),
        ("lr=nan", "lr=nan: expected a number above 0, below 1e30"),
        ("lr=inf", "lr=inf: expected a number above 0, below 1e30"),
        ("lr=0", "lr=0.0: expected a number above 0, below 1e30"),
        ("epochs=1.5", "epochs='1.5': expected an integer in [1, 2**32)"),
        ("epochs=0", "epochs=0: expected an integer in [1, 2**32)"),
        ("epochs=-1", "epochs=-1: expected an integer in [1, 2**32)"),
        ("seed=-1", "seed=-1: expected an integer in [0, 2**32)"),
        ("seed=4294967296", "seed=4294967296: expected an integer in [0, 2**32)"),
        ("run_eagerly=maybe", "run_eagerly='maybe': expected one of true, false"),
        ("run_eagerly=True", "run_eagerly='True': expected one of true, false"),
        ("distillation=firm", "distillation='firm': expected one of none, soft, hard, label"),
        ("alpha=2", "alpha=2.0: expected a fraction in [0, 1]"),
        ("alpha=nan", "alpha=nan: expected a fraction in [0, 1]"),
        ("train_fraction=0", "train_fraction=0.0: expected a fraction in (0, 1]"),
        ("eval_crop=1.1", "eval_crop=1.1: expected a fraction in (0, 1]"),
        ("drop_path=1", "drop_path=1.0: expected a fraction in [0, 1)"),
        ("label_smoothing=1", "label_smoothing=1.0: expected a fraction in [0, 1)"),
        ("weight_decay=-1", "weight_decay=-1.0: expected a number in [0, 1e30)"),
        ("weight_decay=1e30", "weight_decay=1e+30: expected a number in [0, 1e30)"),
        ("distillation=none", "expected a teacher or targets with soft or hard, and none"),
        ("teacher=none", "expected a teacher or targets with soft or hard, and none"),
        ("variant=none", "variant=none without start: expected a variant, or a file to start from"),
        ("mix_group=7", "batch_size=50: expected a multiple of mix_group=7"),
        ("accumulate=4", "batch_size=50: expected a multiple of accumulate=4"),
    ],
)
def test_invalid_settings_say_what_is_expected(setting, message):
    with pytest.raises(kd.UserError, match=re.escape(message)):
        kd.override(kd.RECIPES["digits_hard"], [setting])


def test_every_number_of_a_recipe_has_bounds():
    for field, kind in typing.get_type_hints(kd.Recipe, include_extras=True).items():
        number, *bounds = typing.get_args(kind) or [kind]
        if number in (int, float):
            assert [type(bound) for bound in bounds] == [Bounds], field


def test_override_leaves_its_recipe_unchanged():
    row = kd.RECIPES["digits_hard"]
    epochs = row.epochs
    assert kd.override(row, ["epochs=7", "epochs=8"]).epochs == 8
    assert row.epochs == epochs
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.lr = 1


def test_defaults_are_those_of_the_papers_table_9():
    base = kd.Recipe(note="", variant="deit_base_patch16_224")
    expected = {"epochs": 300, "batch_size": 1024, "lr": 5e-4, "weight_decay": 0.05}
    expected |= {"warmup_epochs": 5, "label_smoothing": 0.1, "drop_path": 0.1}
    expected |= {"mixup": 0.8, "cutmix": 1.0, "min_lr": 1e-5, "warmup_lr": 1e-6}
    assert {name: getattr(base, name) for name in expected} == expected
