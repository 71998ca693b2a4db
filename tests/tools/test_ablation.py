"""The ablation of distillation methods: runs in processes, tables and pictures."""

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.evaluation import plots
from keras_deit.tools import ablation
from keras_deit.utils import tables
from tests.conftest import recipe

ROWS = [
    {"method": "none", "seed": 0, "class": 0.5, "distillation": None, "fused": 0.5},
    {"method": "none", "seed": 1, "class": 0.6, "distillation": None, "fused": 0.6},
    {"method": "hard", "seed": 0, "class": 0.6, "distillation": 0.7, "fused": 0.7},
    {"method": "hard", "seed": 1, "class": 0.7, "distillation": 0.8, "fused": 0.9},
]


def test_the_table_has_means_and_sample_deviations():
    table = ablation.table(ROWS)
    assert "| none | 55.0 ± 7.1 | - | 55.0 ± 7.1 |" in table
    assert "| hard | 65.0 ± 7.1 | 75.0 ± 7.1 | 80.0 ± 14.1 |" in table
    assert "+25.0 points in the mean over 2 seeds, more than the spread of 14.1" in table

    equal = [{**row, "fused": 0.55} for row in ROWS]
    assert "not more than the spread of 0.0" in ablation.table(equal)


def test_one_seed_has_no_deviation():
    table = ablation.table([row for row in ROWS if row["seed"] == 0])
    assert "| hard | 60.0 | 70.0 | 70.0 |" in table
    assert "+20.0 points with one seed." in table
    assert "±" not in table


@pytest.mark.slow
def test_every_method_and_seed_runs_once_and_is_reported(tmp_path, data_dir, capsys):
    methods = {
        "teacher": recipe("digits_teacher", "run_eagerly=true"),
        "hard": recipe("digits_hard", "run_eagerly=true", "teacher=teacher"),
    }
    rows = ablation.run(methods, range(2), tmp_path, data_dir, processes=2)
    assert [(row["method"], row["seed"]) for row in rows] == [
        (method, seed) for seed in range(2) for method in methods
    ]
    assert "epoch 8 of 8, after " in capsys.readouterr().out

    ablation.report(rows, tmp_path)
    read = tables.read_csv(tmp_path / "results.csv")
    assert list(read[0]) == ["method", "seed", "class", "distillation", "fused"]
    assert [row["distillation"] is None for row in read] == [True, False] * 2
    assert float(read[3]["fused"]) == rows[3]["fused"]
    assert (tmp_path / "results.md").read_text() == ablation.table(rows)
    assert (tmp_path / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    plan = (tmp_path / "hard-1" / "plan.json").read_text()
    assert f"{tmp_path}/teacher-1/last.keras" in plan

    written = (tmp_path / "hard-1" / "last.keras").stat().st_mtime_ns
    assert ablation.run(methods, range(2), tmp_path, data_dir, processes=1) == rows
    assert (tmp_path / "hard-1" / "last.keras").stat().st_mtime_ns == written


@pytest.mark.slow
def test_a_failed_run_stops_the_others(tmp_path, data_dir):
    methods = {"none": recipe("digits_none", "variant=deit_huge")}
    with pytest.raises(kd.UserError, match="unknown variant 'deit_huge'"):
        ablation.run(methods, range(2), tmp_path, data_dir, processes=1)


def test_attention_maps_are_drawn(tmp_path, data_dir):
    test = datasets.load("digits", "test", data_dir)
    images = np.stack([test[i][0] for i in range(3)])
    plots.attention_maps(kd.build("deit_digits_distilled"), images, tmp_path / "maps.png")
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["maps.png"]
