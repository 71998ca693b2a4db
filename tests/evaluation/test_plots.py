"""Figures: each is one PNG that shows what it was given."""

import numpy as np
import pytest
from PIL import Image

from keras_deit.configs.preprocessing import Preprocessing
from keras_deit.data.transforms import normalize
from keras_deit.evaluation import plots
from keras_deit.utils import tables

ROWS = [
    {"epoch": 0, "loss": 2.0, "accuracy": 0.2, "val_loss": 2.1, "val_accuracy": 0.1},
    {"epoch": 1, "loss": 1.0, "accuracy": 0.6, "val_loss": 1.2, "val_accuracy": 0.5},
]


@pytest.fixture
def saved(monkeypatch):
    """The figures that are saved, which are PNGs then."""
    figures = []
    save = plots.save

    def keep(figure, path):
        figures.append(figure)
        save(figure, path)
        with Image.open(path) as image:
            assert image.format == "PNG"
        assert [entry.name for entry in path.parent.glob("*.png")] == [path.name]

    monkeypatch.setattr(plots, "save", keep)
    return figures


def test_learning_curves_show_the_mean_of_runs(saved, tmp_path):
    for seed, scale in enumerate((1, 0.5)):
        rows = [{**row, "val_accuracy": scale * row["val_accuracy"]} for row in ROWS]
        tables.write_csv(tmp_path / f"run-{seed}" / "metrics.csv", list(rows[0]), rows)
    workdirs = {"hard": [tmp_path / "run-0", tmp_path / "run-1"]}
    plots.learning_curves(workdirs, tmp_path / "curves.png")
    (axes,) = saved[0].axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[1, 0.075], [2, 0.375]])
    assert axes.lines[0].get_label() == "hard  37.5%"


def test_run_curves_show_losses_and_accuracies(saved, tmp_path):
    plots.run_curves(ROWS, tmp_path / "curves.png")
    loss, accuracy = saved[0].axes
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [[1, 2.0], [2, 1.0]])
    np.testing.assert_allclose(accuracy.lines[1].get_xydata(), [[1, 0.1], [2, 0.5]])
    assert loss.lines[1].get_color() == accuracy.lines[1].get_color()


def test_texts_are_no_formulas(saved, tmp_path):
    """Titles, labels and ticks with two dollar signs, which no formula could be."""
    name = r"a $\100 bill_{$ and \$"
    figure, axes = plots.canvas(4, 3)
    axes.plot([0, 1], label=name)
    axes.set(title=name, xlabel=name, ylabel=name)
    axes.set_xticks([0, 1], [name, name])
    axes.legend()
    figure.suptitle(name)
    figure.legend()
    plots.save(figure, tmp_path / "figure.png")

    tables.write_csv(tmp_path / "run" / "metrics.csv", list(ROWS[0]), ROWS)
    plots.learning_curves({name: [tmp_path / "run"]}, tmp_path / "figure.png", title=name)


@pytest.mark.parametrize("count", [1, 2])
def test_attention_maps_have_a_column_for_each_image(saved, tiny, tmp_path, count):
    images = np.random.default_rng(0).integers(0, 256, (count, 24, 16, 3), np.uint8)
    plots.attention_maps(tiny, images, tmp_path / "maps.png")
    axes = np.reshape(saved[0].axes, (3, count))
    titles = [axis.get_ylabel() for axis in axes[:, 0]]
    assert titles == ["image", "class token", "distillation\ntoken"]

    attention = np.array(tiny.attention_maps(normalize(images))).mean(axis=(1, 2))
    shown = axes[2, 0].images[1].get_array()[::8, ::8]
    np.testing.assert_allclose(shown, attention[0, 1, 2:].reshape(3, 2), rtol=1e-4)


def test_contact_sheet_shows_images_and_labels(saved, tmp_path, photographs):
    images = normalize(np.stack([photograph[:32, :32] for photograph in photographs]))
    labels = np.array([[0.7, 0.26, 0.02, 0.02], [0.01, 0.01, 0.01, 0.97]])
    names = ["a $name$ of more than eighteen characters", "ćma", "third", "\udcff"]
    plots.contact_sheet(images, labels, names, tmp_path / "sheet.png", columns=3)
    axes = saved[0].axes
    assert [axis.get_title() for axis in axes] == [
        "a $name$ of more t 0.70\nćma 0.26",
        "\\udcff 0.97",
    ]
    shown = axes[1].images[0].get_array()
    np.testing.assert_allclose(shown * 255, photographs[1][:32, :32], atol=1e-3)

    half = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.5, 0.5))
    images = normalize(photographs[1][None, :32, :32], preprocessing=half)
    plots.contact_sheet(images, labels, names, tmp_path / "sheet.png", preprocessing=half)
    shown = saved[-1].axes[0].images[0].get_array()
    np.testing.assert_allclose(shown * 255, photographs[1][:32, :32], atol=1e-3)
