"""On a full disk every writer ends in one line, and leaves what was there before."""

import contextlib
import resource

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.evaluation import plots
from keras_deit.training.checkpoints import Checkpoints
from keras_deit.training.records import write_events
from keras_deit.training.workdir import open_workdir
from keras_deit.utils import tables

LIMIT = 100_000  # bytes of a file, as of a disk that is full then


@pytest.fixture(scope="module")
def model():
    return kd.DeiT(16, patch_size=8, width=96, depth=2, heads=3, num_classes=50)


@contextlib.contextmanager
def full_disk(limit=LIMIT):
    """A context in which the system ends each write to a file beyond ``limit``, in the middle.

    It is no fixture: pytest, which may print to a file, reports a test before its fixtures end.
    """
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


def save_checkpoint(path):
    Checkpoints(path.parent, keep=2).save(1, {"weights": np.zeros(LIMIT)}, {})


def save_figure(path):
    figure, axes = plots.canvas(8, 8)
    axes.imshow(np.random.default_rng(0).random((500, 500)))
    plots.save(figure, path)


def save_csv(path):
    tables.write_csv(path, ["note"], [{"note": "x" * LIMIT}])


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("model.keras", kd.DeiT.save),
        ("model.weights.h5", kd.DeiT.save_weights),
        ("model.safetensors", kd.save_pretrained),
        ("000000001.safetensors", lambda _, path: save_checkpoint(path)),
        ("results.csv", lambda _, path: save_csv(path)),
        ("results.png", lambda _, path: save_figure(path)),
        ("model.onnx", kd.export),
        pytest.param("model.tflite", kd.export, marks=pytest.mark.slow),
        pytest.param("saved_model", kd.export, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_one_line_that_names_the_file(name, write, model, tmp_path):
    path = tmp_path / name
    with pytest.raises(kd.UserError) as raised, full_disk():
        write(model, path)
    advice = "File too large: make room, or choose another folder"
    assert str(raised.value) == f"cannot write {path}: {advice}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("save", [kd.DeiT.save, kd.DeiT.save_weights])
def test_a_full_disk_leaves_the_model_that_was_there(save, model, tmp_path):
    path = tmp_path / ("model.keras" if save is kd.DeiT.save else "model.weights.h5")
    path.write_text("old content")
    with pytest.raises(kd.UserError, match=f"^cannot write {path}: "), full_disk():
        save(model, path)
    assert path.read_text() == "old content"
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_on_a_full_disk_is_one_line(tmp_path):
    error = pytest.raises(kd.UserError, match=r"^cannot write .*\.lock: File too large: make room")
    with error, full_disk(0), open_workdir(tmp_path / "run", kd.RECIPES["digits_none"]):
        pass


def test_events_for_tensorboard_are_one_line_too(tmp_path):
    """TensorFlow's error has several lines."""
    (tmp_path / "tensorboard").write_text("a file in place of a folder")
    with pytest.raises(kd.UserError, match=r"^cannot write .*tensorboard: ") as raised:
        write_events({"epoch": 0, "loss": 1.0}, tmp_path)
    assert "\n" not in str(raised.value)


def test_a_dataset_is_prepared_again_once_there_is_room(tmp_path):
    error = pytest.raises(kd.UserError, match=r"digits could not be prepared: .*File too large")
    with error, full_disk():
        datasets.load("digits", "train", tmp_path)
    assert len(datasets.load("digits", "train", tmp_path)) == 898
