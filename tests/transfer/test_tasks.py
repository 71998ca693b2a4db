"""The tasks: their rows, their settings by model and resolution, and how they are found."""

import dataclasses

import pytest

import keras_deit as kd
from transfer import TASKS
from transfer.tasks import PAPER, find


def test_rows_are_complete():
    for name, task in TASKS.items():
        assert task.classes > 1, name
        assert task.metric in ("top1", "per_class"), name
        assert len(task.published_top1) == (4 if name in PAPER else 0), name
        assert all(50 < score < 100 for score in task.published_top1.values()), name
        assert all(model in kd.VARIANTS for model in task.published_top1), name
        assert not set(task.published_settings) & set(task.our_settings), name


def test_the_papers_tasks_are_the_six_of_table_7():
    expected = ("cifar10", "cifar100", "oxford_flowers102", "cars196")
    assert (*expected, "i_naturalist2018", "i_naturalist2019") == PAPER
    assert TASKS["oxford_flowers102"].published_settings == {}
    assert "lr" in TASKS["cars196"].published_settings


def test_rows_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TASKS["cifar10"].classes = 1


def test_tasks_are_found_by_name_or_folder(tmp_path):
    assert find("cifar10") is TASKS["cifar10"]

    folder = find(f"folder:{tmp_path}/birds/")
    assert folder == find(f"folder:{tmp_path}/./birds")
    assert (folder.title, folder.classes) == ("birds", 0)
    assert folder.dataset == f"folder:{tmp_path}/birds"

    for name in ("birds", "folder:"):
        with pytest.raises(kd.UserError, match=f"unknown task '{name}': expected cifar10, .* or f"):
            find(name)


def test_published_scores_are_fractions():
    task = TASKS["cifar100"]
    assert task.published_score("deit_base_distilled_patch16_224") == pytest.approx(0.913)
    assert task.published_score("deit_tiny_patch16_224") is None


def test_settings_depend_on_width_and_resolution():
    adamw = TASKS["cifar10"]
    base = adamw.settings(width=768, image_size=224)
    assert adamw.settings(width=192, image_size=224)["lr"] == 4 * base["lr"]
    assert adamw.settings(width=384, image_size=224)["lr"] == 2 * base["lr"]
    assert adamw.settings(width=None, image_size=224) == base  # a convnet
    assert adamw.settings(width=768, image_size=384) == {**base, "batch_size": 512}

    sgd = TASKS["cars196"]
    assert sgd.settings(width=192, image_size=224)["lr"] == 0.01
