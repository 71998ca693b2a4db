"""The model benchmark: its processes, its figures and its files."""

import json

import pytest

from keras_deit.tools import model_benchmark, model_report
from keras_deit.tools.contenders import Settings
from keras_deit.tools.model_benchmark import Contender


def contender(name, mode="inference", seconds=(2.0, 4.0, 8.0), batch=16):
    settings = Settings(name.split()[0], model_benchmark.VARIANT, mode, "float32", "auto", batch)
    return Contender(name, settings, None, 3.0, list(seconds), 1.5)


@pytest.mark.parametrize(
    ("variant", "gigamacs"),
    # The official README and timm's table.
    [("deit_tiny_patch16_224", 1.26), ("deit_small_patch16_224", 4.61)],
)
def test_operations_are_the_published_ones(variant, gigamacs):
    settings = Settings("keras_deit", variant, "inference", "float32")
    operations = model_report.operations(settings)
    assert operations == pytest.approx(2e9 * gigamacs, rel=0.01)

    training = Settings("keras_deit", variant, "training", "float32")
    assert model_report.operations(training) == 3 * operations


def test_ratios_are_of_the_same_mode_and_round():
    ours = contender("keras_deit tensorflow auto", seconds=(1.0, 4.0, 4.0))
    others = [contender("timm eager"), contender("timm eager", "training", (1.0, 1.0, 1.0))]

    assert ours.images_per_second == 4
    assert model_report.ratio(ours, [ours, *others]) == "1.00 (1.00 to 2.00)"
    assert model_report.ratio(ours, [ours, others[1]]) == "-"


def test_files_hold_the_table_the_figures_and_a_chart(tmp_path):
    rows = [contender("keras_deit tensorflow auto"), contender("timm eager", seconds=(4.0,) * 3)]
    model_report.write(tmp_path, "table", rows)

    assert (tmp_path / "model.md").read_text() == "table\n"
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")
    figures = json.loads((tmp_path / "model.json").read_text())
    assert [row["images_per_second"] for row in figures] == [4.0, 4.0]
    assert figures[0]["peak_gib"] == 1.5


@pytest.mark.slow
def test_a_contender_takes_steps_in_a_process():
    settings = Settings("keras_deit", "deit_digits_distilled", "inference", "float32", batch=2)
    name = "keras_deit tensorflow auto"
    (measured,) = model_benchmark._compare({name: settings}, rounds=2)

    assert len(measured.step_seconds) == 2
    assert 0 < min(measured.step_seconds) < measured.first_step
    assert 0.1 < measured.peak < 5
    assert measured.process.returncode is not None
