"""A ~ is the user's home folder, wherever a path is given; no folder is ever called "~"."""

import pathlib

import numpy as np
import pytest
from PIL import Image

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.training.workdir import open_workdir
from keras_deit.utils import files
from keras_deit.utils.paths import expand_home
from transfer import TASKS, recipe
from transfer.sweep import sweep
from transfer.tasks import find


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder of this test, which runs in another one that has to stay empty."""
    home = tmp_path / "home"
    here = tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    yield home
    assert not list(here.iterdir())


def test_a_tilde_is_expanded_where_a_path_begins(home):
    for path, expected in (
        ("~", str(home)),
        ("~/model.keras", f"{home}/model.keras"),
        ("folder:~/birds", f"folder:{home}/birds"),
        (pathlib.Path("~/data"), home / "data"),
        (["~/a", None], [f"{home}/a", None]),
    ):
        assert expand_home(path) == expected
    for path in ("a/~", "a~b", "./~", "cifar10", "gs://bucket/~", "", None, 3, pathlib.Path("a")):
        assert expand_home(path) == path


def test_models_are_written_and_read_in_the_home_folder(home):
    model = kd.DeiT(8, patch_size=4, width=12, depth=1, heads=3, num_classes=5)
    model.save("~/model.keras")
    model.save_weights("~/model.weights.h5")
    kd.save_pretrained(model, "~/model.safetensors")
    kd.export(model, "~/model.onnx")
    kd.export(model, pathlib.Path("~/model.onnx"), overwrite=True)
    with pytest.raises(kd.UserError, match="exists"):
        kd.export(model, "~/model.onnx")
    assert len(list(home.glob("model.*"))) == 4

    kd.load("~/model.safetensors")
    assert kd.load(pathlib.Path("~/model.keras")).num_classes == 5
    assert recipe(TASKS["digits_5to9"], "~/model.keras").start == f"{home}/model.keras"


def test_data_is_written_and_read_in_the_home_folder(home):
    assert len(datasets.load("digits", "train[:9]", "~/data")) == 9
    assert (home / "data" / "digits").is_dir()

    for name in ("a", "b"):
        (home / "birds" / name).mkdir(parents=True)
        for number in range(2):
            pixels = np.zeros((8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(home / "birds" / name / f"{number}.png")
    assert datasets.load("folder:~/birds", "train").class_names == ("a", "b")
    assert find("folder:~/birds").dataset == f"folder:{home}/birds"


def test_recipes_and_workdirs_are_in_the_home_folder(home):
    row = kd.RECIPES["digits_hard"]
    settings = ["dataset=folder:~/birds", "teacher=~/teacher.keras", "start=~/start.keras"]
    row = kd.override(row, settings)
    assert row.dataset == f"folder:{home}/birds"
    assert (row.teacher, row.start) == ((f"{home}/teacher.keras",), f"{home}/start.keras")

    with open_workdir("~/run", row) as workdir:
        assert workdir == home / "run"
    with files.locked("~/lock"):
        files.atomic_write_text("~/text", "content")

    with pytest.raises(kd.UserError, match="1 of 1 runs failed"):
        sweep(["folder:~/missing"], ["deit_digits"], "~/sweep")
    assert (home / "sweep" / "results.csv").exists()
