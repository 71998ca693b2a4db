"""Processes that train together. Each case has processes of its own."""

import json
import subprocess
import sys

import numpy as np
import pytest

import keras_deit as kd
from keras_deit import processes, strategies
from keras_deit.errors import Lost
from tests import engines
from tests.conftest import ROOT, recipe

MEET = """
import json
import numpy as np
import keras_deit as kd
from keras_deit import processes, strategies
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


@pytest.mark.parametrize(
    ("settings", "environment", "says"),
    [
        ("strategy=multiworker", {}, "expected TF_CONFIG with the workers, or a Slurm job"),
        ("strategy=auto", {"TF_CONFIG": "[]"}, "TF_CONFIG is not what TensorFlow reads"),
        ("strategy=auto", {"TF_CONFIG": "{"}, "TF_CONFIG is not what TensorFlow reads"),
        (
            "strategy=auto",
            {"TF_CONFIG": '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}}'},
            r"jobs \['chief', 'worker'\]: expected a cluster of workers",
        ),
    ],
)
def test_processes_that_are_not_there_are_said(monkeypatch, settings, environment, says):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(kd.UserError, match=says):
        strategies.join(recipe("digits_none", settings))
    assert processes.count() == 1


def test_a_worker_joins_before_anything_else(monkeypatch, tiny):
    tiny(np.zeros((1, 24, 16, 3)))
    monkeypatch.setenv("TF_CONFIG", engines.cluster("tensorflow", ["a:1", "b:1"], 0)["TF_CONFIG"])
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
        with pytest.raises(Lost, match=r"another process ended .* in here") as error:  # noqa: SIM117
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
