"""Processes that train together. Each case has processes of its own."""

import json
import subprocess
import sys

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.distribution import processes, strategies
from keras_deit.utils.errors import ProcessLost
from tests.conftest import ROOT, recipe
from tests.programs import engines

MEET = """
import json
import numpy as np
import keras_deit as kd
from keras_deit.distribution import processes, strategies
from tests.conftest import recipe

strategies.join(recipe("digits_none", "strategy=multiworker"))
index = processes.index()
rows = processes.concatenate(np.full((index, 3), np.pi * index))  # none of the first
ones = processes.each(np.float32(0.1 + index))
with processes.first_alone():
    pass
print(json.dumps([processes.count(), index, rows.tolist(), ones.tolist()]))
"""


def slurm(index, port):
    """What ``srun --ntasks=2`` tells a task."""
    names = {"JOB_ID": port, "STEP_NODELIST": "localhost", "STEP_TASKS_PER_NODE": 2}
    names |= {"STEP_NUM_TASKS": 2, "NTASKS": 2, "PROCID": index, "LOCALID": index}
    return {f"SLURM_{name}": str(value) for name, value in (names | {"STEP_NUM_NODES": 1}).items()}


DIFFER = """
import sys
from keras_deit.distribution import strategies
from keras_deit.training import workdir
from keras_deit.utils import errors
from tests.conftest import recipe

index = int(sys.argv[3])
row = recipe("digits_none", f"lr=0.{1 + index if sys.argv[1] == 'recipe' else 1}")
strategies.join(row)
folder = sys.argv[2] + ("/other" * index if sys.argv[1] == "folder" else "")
try:
    with workdir.opened(folder, row):
        pass
except errors.UserError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "says"),
    [("recipe", "not the same recipe in all 2"), ("folder", "not the same folder")],
)
def test_what_differs_between_processes_is_refused_in_both(tmp_path, what, says):
    addresses = [f"localhost:{port}" for port in engines.free_ports(2)]
    started = []
    for index in range(2):
        environ = engines.environment("tensorflow", 1, addresses, index)
        argv = [sys.executable, "-c", DIFFER, what, str(tmp_path), str(index)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(argv, cwd=ROOT, env=environ, **pipes))
    for process in started:
        output, errors = process.communicate(timeout=120)
        assert says in output, errors[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("named", ["in the environment", "by Slurm"])
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_processes_meet_and_fill_an_array(backend, named):
    ports = engines.free_ports(2)
    addresses = [f"localhost:{port}" for port in ports] if named == "in the environment" else ["-"]
    started = []
    for index in range(2):
        environ = engines.environment(backend, 1, addresses, index)
        environ |= slurm(index, ports[0]) if named == "by Slurm" else {}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(
            subprocess.Popen([sys.executable, "-c", MEET], cwd=ROOT, env=environ, **pipes)
        )
    for index, process in enumerate(started):
        output, errors = process.communicate(timeout=120)
        assert not process.returncode, errors[-2000:]
        rows, ones = [[np.pi] * 3], np.float32([0.1, 1.1]).tolist()  # to the last bit
        assert json.loads(output.splitlines()[-1]) == [2, index, rows, ones]


CLUSTER = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": %s}}'


@pytest.mark.parametrize(
    "config",
    [
        "[]",
        "{",
        '{"cluster": {"worker": ["a:1", "b:1"]}}',
        '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "chief", "index": 0}}',
        '{"cluster": {"worker": 5}, "task": {"type": "worker", "index": 0}}',
        CLUSTER % 2,
        CLUSTER % '"x"',
    ],
)
def test_a_wrong_cluster_is_said(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(
        kd.UserError, match=r'TF_CONFIG=.*: expected {"cluster": {"worker": \["host'
    ):
        strategies.join(recipe("digits_none"))
    assert processes.count() == 1


def test_processes_that_are_not_there_are_said():
    with pytest.raises(kd.UserError, match="expected TF_CONFIG with the workers, or a Slurm job"):
        strategies.join(recipe("digits_none", "strategy=multiworker"))


@pytest.mark.parametrize(
    ("addresses", "count", "index"), [(None, "2", "0"), ("a:1", "two", "0"), ("a:1", "2", None)]
)
def test_wrong_processes_of_jax_are_said(monkeypatch, addresses, count, index):
    values = {"JOB_ADDRESSES": addresses, "NUM_PROCESSES": count, "PROCESS_ID": index}
    for name, value in values.items():
        if value is not None:
            monkeypatch.setenv(f"KERAS_DISTRIBUTION_{name}", value)
    with pytest.raises(kd.UserError, match=r"KERAS_DISTRIBUTION_.*: expected host:port, a number"):
        processes._jax_environment()


def test_a_worker_joins_before_anything_else(monkeypatch, tiny):
    tiny(np.zeros((1, 24, 16, 3)))
    monkeypatch.setenv("TF_CONFIG", CLUSTER % 0)
    with pytest.raises(kd.UserError, match=r"cannot join the other workers: .*program startup"):
        strategies.join(recipe("digits_none"))


def test_one_process_merges_nothing():
    array = np.arange(3)
    for merge in (processes.merge, processes.concatenate):
        np.testing.assert_array_equal(merge(array), array)
    np.testing.assert_array_equal(processes.each(5), [5])


def test_the_end_of_another_process_is_told_from_other_errors(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    for text in ("a\n Gloo AllGather failed: Read error: Connection reset by peer", "UNAVAILABLE"):
        with pytest.raises(ProcessLost, match=r"another process ended .* in here") as error:  # noqa: SIM117
            with processes.noticed("here"):
                raise ValueError(text)
        assert "\n" not in str(error.value)
        assert error.value.code == 75
    with pytest.raises(ValueError, match="of ours"), processes.noticed("here"):
        raise ValueError("of ours")


def test_mixed_images_stay_in_one_process(data_dir):
    row = recipe("digits_none", "mix_group=30")
    parts = [next(iter(kd.data.train(row, data_dir, process=(i, 2)))) for i in range(2)]
    whole = next(iter(kd.data.train(row, data_dir)))
    for at in (0, 1):
        rows = np.concatenate([np.array(part[at]) for part in parts])
        np.testing.assert_array_equal(rows, whole[at])
    with pytest.raises(kd.UserError, match="mixed in groups of 60, for 2 processes"):
        kd.data.train(recipe("digits_none"), data_dir, process=(0, 2))


def test_processes_share_the_images_of_an_evaluation(data_dir):
    row = recipe("digits_none")
    whole = [np.concatenate(part) for part in zip(*kd.data.evaluation(row, data_dir), strict=True)]
    for count in (2, 7):
        parts = [list(kd.data.evaluation(row, data_dir, process=(i, count))) for i in range(count)]
        assert len({len(batches) for batches in parts}) == 1
        for at in (0, 1):
            images = np.concatenate([batch[at] for batches in parts for batch in batches])
            np.testing.assert_array_equal(images, whole[at])
    with pytest.raises(kd.UserError, match="360 images to evaluate for 200 processes"):
        kd.data.evaluation(row, data_dir, process=(0, 200))
