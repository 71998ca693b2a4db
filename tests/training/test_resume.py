"""A run goes on after whatever ended it, and its folder is one process' alone."""

import random
import signal

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.training import workdir
from keras_deit.utils.errors import Interrupted
from tests.programs.survive import commands, processes, survive


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["single", "mirrored", "workers", "jax_processes"])
def test_a_killed_run_comes_to_the_very_same(tmp_path, data_dir, engine):
    signals = (signal.SIGTERM, signal.SIGKILL) if engine == "single" else (signal.SIGKILL,)
    kills = len(signals)
    assert not survive(tmp_path, kills, 6, random.Random(1), data_dir, signals, engine)


@pytest.mark.slow
def test_a_run_goes_on_on_the_other_backend(tmp_path, data_dir):
    first, second = "jax", "single"
    alone, moved = tmp_path / "alone", tmp_path / "moved"
    processes(commands(first, alone, data_dir, ["epochs=2"]))
    stop = signal.SIGTERM, False, 1  # in the first epoch
    output = processes(commands(first, moved, data_dir, ["epochs=2"]), stop)[1]
    assert "after step" in output[-1]
    output = processes(commands(second, moved, data_dir, ["epochs=2"]))[1]
    assert any("Goes on in epoch 1" in line for line in output)
    rows = []
    for folder in (alone, moved):
        with open(folder / "metrics.csv") as lines:
            table = np.array([line.split(",") for line in lines.read().splitlines()])
        rows.append(table[1:, table[0] != "images_per_second"].astype(float))
    np.testing.assert_allclose(*rows, atol=1e-5)


def states(folder, keep=2):
    store = workdir.Checkpoints(folder, keep)
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
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, content):
    store = states(tmp_path)
    store.latest()[0].write_bytes(content)
    with pytest.warns(UserWarning, match=r"safetensors is damaged and now 1000000000.damaged"):
        assert store.latest()[2] == {"epoch": 10}
    store.save(11, {"weights": np.zeros(3)}, {"epoch": 11})  # which is not the oldest now
    assert store.latest()[2] == {"epoch": 11}


def test_a_folder_is_one_process_alone(tmp_path):
    row = kd.RECIPES["digits_none"]
    with workdir.opened(tmp_path, row):
        says = pytest.raises(kd.UserError, match=r"in use by process \d+ on .*: wait for it")
        with says, workdir.opened(tmp_path, row):
            pass
    with workdir.opened(tmp_path, row):  # what is left of the lock is none
        pass


def test_half_written_files_of_a_killed_process_go(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".partial-1-000000005.safetensors").touch()
    with workdir.opened(tmp_path, kd.RECIPES["digits_none"]):
        assert not list(tmp_path.rglob(".partial*"))


def test_the_exit_code_says_that_a_run_can_go_on():
    assert Interrupted("", signal.SIGTERM).code == 75
    assert Interrupted("", signal.SIGINT).code == 130
