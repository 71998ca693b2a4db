"""What tests share: quiet TensorFlow, the prepared digits, a tiny recipe."""

import os

# Before TensorFlow is imported. XLA's machine code need not be fast: models are tiny, and
# optimizing it takes most of the time in which they are compiled.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import gc
import pathlib

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.weights.names import from_timm, variables

ROOT = pathlib.Path(__file__).absolute().parents[1]
GOLDENS = pathlib.Path(__file__).parent / "goldens"
TINY = ("epochs=2", "passes=2", "batch_size=60", "warmup_epochs=1")


LONGEST = ("test_resume.py", "test_engines.py", "test_sweep.py", "test_fields.py")


def pytest_collection_modifyitems(items):
    """Puts the files that take longest first, so that the workers end at about the same time."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="module", autouse=True)
def frozen_objects():
    """Has the garbage collector not look again at what a module leaves, which TensorFlow and Keras
    keep: it would take a quarter of the time of all tests."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    kd.data.datasets.load("digits", "train", folder)
    return folder


@pytest.fixture(scope="session")
def forks(data_dir):
    """Starts processes in which TensorFlow, Keras and this library are imported, and for which the
    digits are prepared."""
    from tests.forks import Forks

    with Forks(TFDS_DATA_DIR=str(data_dir)) as forks:
        yield forks


@pytest.fixture(scope="session")
def photographs():
    """The two that scikit-learn ships, uint8 (427, 640, 3): a temple roof, full of fine lines, and
    a flower."""
    from sklearn.datasets import load_sample_images

    return load_sample_images().images


@pytest.fixture
def golden():
    return lambda name: dict(np.load(GOLDENS / f"{name}.npz"))


@pytest.fixture
def tiny():
    """A distilled DeiT of non-square images, small enough for anything."""
    return kd.DeiT((24, 16), patch_size=8, width=12, depth=2, heads=3, num_classes=5)


def fill(model, truth):
    """Assigns a golden's ``weights/<timm name>``; every variable and every one of them once."""
    names = {f"weights/{name}" for name in variables(model)}
    assert names == {name for name in truth if "weights/" in name}
    for name, variable in variables(model).items():
        variable.assign(from_timm(name, truth[f"weights/{name}"]))
    return model


def recipe(name="digits_hard", *settings):
    """A row of RECIPES in its shortest form: 3 steps."""
    return kd.override(kd.RECIPES[name], [*TINY, *settings])


def assert_same_boxes(some, others):
    """That two samples of boxes, (count, 4) of top, left, height, width, are of one distribution:
    the Kolmogorov-Smirnov test, at one in a thousand, of these four, the area and the aspect."""
    samples = []
    for boxes in (some.astype(float), others.astype(float)):
        height, width = boxes[:, 2], boxes[:, 3]
        samples.append(np.column_stack([boxes, height * width, height / np.maximum(width, 1)]))
    for one, other in zip(samples[0].T, samples[1].T, strict=True):
        at = np.union1d(one, other)
        fractions = [
            np.searchsorted(np.sort(sample), at, side="right") / len(sample)
            for sample in (one, other)
        ]
        assert np.abs(fractions[0] - fractions[1]).max() < 1.95 * np.sqrt(
            1 / len(one) + 1 / len(other)
        )


@pytest.fixture
def file(golden, tmp_path):
    """The golden distilled model's parameters as timm would save them."""
    from safetensors.numpy import save_file

    from tests.parameters import parameters

    save_file(parameters(golden("deit_distilled")), tmp_path / "timm.safetensors")
    return tmp_path / "timm.safetensors"
