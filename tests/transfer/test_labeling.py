"""Labeling of a task: once for all seeds and students of a sweep."""

import json

import pytest

import keras_deit as kd
from tests.conftest import TINY
from transfer.sweep import sweep


@pytest.mark.slow
def test_a_teacher_labels_a_task_once_for_all_seeds(tmp_path, data_dir):
    settings = [*TINY, "run_eagerly=true", "distillation=hard", "teacher=regnety_digits"]
    models = ["deit_digits_distilled"]
    rows = sweep(
        ["digits_5to9"], models, tmp_path, settings, seeds=2, data_dir=data_dir, label=True
    )
    assert [(row["seed"], row["error"]) for row in rows] == [(0, None), (1, None)]

    task = tmp_path / "digits_5to9"
    assert len(list(task.glob("teachers/*/regnety_digits/last.keras"))) == 1
    (targets,) = task.glob("targets/*/targets.json")
    recipes = [
        json.loads((task / "deit_digits_distilled" / seed / "plan.json").read_text())["recipe"]
        for seed in "01"
    ]
    assert [row["targets"] for row in recipes] == [str(targets.parent)] * 2
    assert [(row["seed"], row["data_seed"], row["teacher"]) for row in recipes] == [
        (0, 0, []),
        (1, 0, []),
    ]

    # A larger student sees the same views, and one of other images does not.
    before = targets.stat().st_mtime_ns
    more = {"deit_digits": [], "deit_digits_distilled": ["epochs=1", "seed=5"]}
    for name, others in more.items():
        token = ["token=false"] if name == "deit_digits" else []
        sweep(
            ["digits_5to9"],
            [name],
            tmp_path,
            [*settings, *token, *others],
            data_dir=data_dir,
            label=True,
        )
    assert targets.stat().st_mtime_ns == before
    assert len(list(task.glob("targets/*/targets.json"))) == 2


def test_labeling_needs_a_teacher(tmp_path):
    with pytest.raises(kd.UserError, match="labeling without a teacher: expected --set=teacher="):
        sweep(["digits_5to9"], ["deit_digits"], tmp_path, label=True)
