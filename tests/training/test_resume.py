"""A run resumes after whatever ended it, and its workdir is locked."""

import random
import signal

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.training.checkpoints import Checkpoints
from keras_deit.training.workdir import open_workdir
from keras_deit.utils.errors import Interrupted
from tests.programs.survive import SETTINGS, Kill, commands, run, survive


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["single", "mirrored", "workers", "jax_processes"])
def test_a_killed_run_gives_identical_results(forks, tmp_path, data_dir, engine):
    # Seeds whose kills come in the second epoch, and, of one device's, also during start-up.
    signals, seed = (signal.SIGKILL,), 2
    if engine == "single":
        signals, seed = (signal.SIGTERM, signal.SIGKILL), 6
    rng = random.Random(seed)
    lines = survive(forks, tmp_path, len(signals), 3, rng, data_dir, signals, engine)
    assert not lines


@pytest.mark.slow
def test_a_run_resumes_on_the_other_backend(forks, tmp_path, data_dir, capsys):
    settings = ["epochs=2"]
    moved, uninterrupted = tmp_path / "moved", tmp_path / "uninterrupted"

    # On JAX too: the backends draw other initial weights.
    run(forks, commands("jax", uninterrupted, data_dir, settings))

    stop = Kill(signal.SIGTERM, after_epochs=1, seconds=0.5)
    _, output = run(forks, commands("jax", moved, data_dir, settings), stop)
    assert "after step" in output[-1]

    row = kd.override(kd.RECIPES["digits_none"], [*SETTINGS, *settings])
    kd.train(row, moved, data_dir)  # on TensorFlow, as the tests are
    assert "Resuming at epoch 1, step " in capsys.readouterr().out

    rows = []
    for folder in (moved, uninterrupted):
        with open(folder / "metrics.csv") as lines:
            table = np.array([line.split(",") for line in lines.read().splitlines()])
        rows.append(table[1:, table[0] != "images_per_second"].astype(float))
    np.testing.assert_allclose(*rows, atol=1e-5)


def states(folder, keep=2):
    store = Checkpoints(folder, keep)
    for step in (5, 10, 1_000_000_000):
        store.save(step, {"weights": np.full(3, step)}, {"epoch": step})
    return store


def test_the_last_checkpoints_are_kept(tmp_path):
    path, arrays, description = states(tmp_path).latest()
    assert description == {"epoch": 1_000_000_000}
    np.testing.assert_array_equal(arrays["weights"], [1_000_000_000] * 3)
    assert path == max(tmp_path.iterdir(), key=lambda path: int(path.stem))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}", bytes(100)])
def test_a_corrupt_checkpoint_is_replaced_by_the_one_before(tmp_path, content):
    store = states(tmp_path)
    store.latest()[0].write_bytes(content)
    with pytest.warns(UserWarning, match=r"safetensors is corrupt and now 1000000000.corrupt"):
        assert store.latest()[2] == {"epoch": 10}
    store.save(11, {"weights": np.zeros(3)}, {"epoch": 11})  # which is not the oldest now
    assert store.latest()[2] == {"epoch": 11}


def test_a_workdir_is_locked(tmp_path):
    row = kd.RECIPES["digits_none"]
    with open_workdir(tmp_path, row):
        refused = pytest.raises(kd.UserError, match=r"in use by process \d+ on .*: wait for it")
        with refused, open_workdir(tmp_path, row):
            pass
    with open_workdir(tmp_path, row):  # what is left of the lock is none
        pass


def test_partial_files_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".partial-1-000000005.safetensors").touch()
    with open_workdir(tmp_path, kd.RECIPES["digits_none"]):
        assert not list(tmp_path.rglob(".partial*"))


def test_exit_codes_of_interrupted_runs():
    assert Interrupted("", signal.SIGTERM).code == 75
    assert Interrupted("", signal.SIGINT).code == 130
