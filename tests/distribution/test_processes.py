"""Processes that train together. Each case starts separate processes."""

import json

import numpy as np
import pytest
import tensorflow as tf

import keras_deit as kd
from keras_deit.distribution import Strategy, processes
from keras_deit.utils.errors import ProcessLost
from tests.conftest import recipe
from tests.programs.clusters import environment, environments, free_addresses, run_together

MEET = """
import json
import numpy as np
import keras_deit as kd
from keras_deit.distribution import processes

processes.join()
index = processes.index()
rows = processes.concatenate(np.full((index, 3), np.pi * index))  # none of the first
ones = processes.gather(np.float32(0.1 + index))
with processes.first_process_first():
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
from keras_deit.distribution import Strategy
from keras_deit.training.workdir import open_workdir
from keras_deit.utils.errors import UserError
from tests.conftest import recipe

index = int(sys.argv[3])
row = recipe("digits_none", f"lr=0.{1 + index if sys.argv[1] == 'recipe' else 1}")
Strategy(row.strategy)
folder = sys.argv[2] + ("/other" * index if sys.argv[1] == "folder" else "")
try:
    with open_workdir(folder, row):
        pass
except UserError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "message"),
    [("recipe", "not the same recipe in all 2"), ("folder", "not the same folder")],
)
def test_differing_processes_are_all_refused(forks, tmp_path, what, message):
    arguments = ["-c", DIFFER, what, str(tmp_path)]
    commands = [
        ([*arguments, str(index)], environ)
        for index, environ in enumerate(environments("tensorflow"))
    ]
    for process in run_together(forks, commands):
        assert message in process.stdout, process.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("named", ["in the environment", "by Slurm"])
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_processes_join_and_merge_an_array(forks, backend, named):
    environs = environments(backend)
    if named == "by Slurm":
        port = free_addresses(1)[0].split(":")[1]
        environs = [environment(backend) | slurm(index, port) for index in range(2)]

    ended = run_together(forks, [(["-c", MEET], environ) for environ in environs])
    for index, process in enumerate(ended):
        assert not process.returncode, process.stderr[-2000:]
        rows, ones = [[np.pi] * 3], np.float32([0.1, 1.1]).tolist()  # to the last bit
        assert json.loads(process.stdout.splitlines()[-1]) == [2, index, rows, ones]


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
def test_an_invalid_cluster_is_refused(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(
        kd.UserError, match=r'TF_CONFIG=.*: expected {"cluster": {"worker": \["host'
    ):
        Strategy("auto")
    assert processes.count() == 1


def test_multiworker_without_other_processes_is_refused():
    with pytest.raises(kd.UserError, match="expected TF_CONFIG with the workers, or a Slurm job"):
        Strategy("multiworker")


@pytest.mark.parametrize(
    ("addresses", "count", "index"), [(None, "2", "0"), ("a:1", "two", "0"), ("a:1", "2", None)]
)
def test_invalid_jax_processes_are_refused(monkeypatch, addresses, count, index):
    values = {"JOB_ADDRESSES": addresses, "NUM_PROCESSES": count, "PROCESS_ID": index}
    for name, value in values.items():
        if value is not None:
            monkeypatch.setenv(f"KERAS_DISTRIBUTION_{name}", value)
    with pytest.raises(kd.UserError, match=r"KERAS_DISTRIBUTION_.*: expected host:port, the"):
        processes._jax_environment()


def test_a_worker_cannot_join_after_tensorflow_was_used(monkeypatch, tiny):
    tiny(np.zeros((1, 24, 16, 3)))
    monkeypatch.setenv("TF_CONFIG", CLUSTER % 0)
    with pytest.raises(kd.UserError, match=r"cannot join the other workers: .*program startup"):
        Strategy("auto")


def test_one_process_merges_to_its_own_array():
    array = np.arange(3)
    for merge in (processes.merge, processes.concatenate):
        np.testing.assert_array_equal(merge(array), array)
    np.testing.assert_array_equal(processes.gather(5), [5])


def test_a_lost_process_is_distinguished_from_other_errors(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    for text in ("a\n Gloo AllGather failed: Read error: Connection reset by peer", "UNAVAILABLE"):
        with pytest.raises(ProcessLost, match=r"another process ended .* in here") as error:  # noqa: SIM117
            with processes.lost_process_is_reported("here"):
                raise tf.errors.UnavailableError(None, None, text)
        assert "\n" not in str(error.value)
        assert error.value.code == 75
    with pytest.raises(ValueError, match="of ours"), processes.lost_process_is_reported("here"):
        raise ValueError("of ours")


def test_mixed_images_stay_in_one_process(data_dir):
    row = recipe("digits_none", "mix_group=30")
    expected = next(iter(kd.data.train(row, data_dir)))
    batches = [next(iter(kd.data.train(row, data_dir, process=(i, 2)))) for i in range(2)]
    for own, array in zip(zip(*batches, strict=True), expected, strict=True):
        np.testing.assert_array_equal(np.concatenate(own), array)
    with pytest.raises(kd.UserError, match="mixed in groups of 60, for 2 processes"):
        kd.data.train(recipe("digits_none"), data_dir, process=(0, 2))


def test_processes_divide_the_images_of_an_evaluation(data_dir):
    row = recipe("digits_none")
    expected = arrays_of(kd.data.evaluation(row, data_dir))
    for count in (2, 7):
        by_process = [
            list(kd.data.evaluation(row, data_dir, process=(i, count))) for i in range(count)
        ]
        assert len({len(batches) for batches in by_process}) == 1
        together = arrays_of(batch for batches in by_process for batch in batches)
        for array, expected_array in zip(together, expected, strict=True):
            np.testing.assert_array_equal(array, expected_array)
    with pytest.raises(kd.UserError, match="360 images to evaluate for 200 processes"):
        kd.data.evaluation(row, data_dir, process=(0, 200))


def arrays_of(batches):
    """The images and the labels of batches, as an array each."""
    return [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]
