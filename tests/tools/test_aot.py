"""A step compiled ahead of time; without libtpu, for this host's own devices."""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import pytest

from keras_deit.tools import aot
from keras_deit.utils.errors import UserError
from tests.conftest import ROOT, recipe
from tests.programs.clusters import environment

COMPILED = """
import dataclasses, json
import jax
from keras_deit.tools import aot
from tests.conftest import recipe

for devices in (jax.devices()[:1], jax.devices()):
    row = recipe("digits_hard", f"batch_size={20 * len(devices)}")
    print(json.dumps(dataclasses.asdict(aot.compile_step(row, devices))))
"""
# Messages of libtpu 0.0.52, after the status.
SHORTAGE = (
    "Ran out of memory on HBM, the total memory required for HLO temporaries (43.71G) exceeds"
    " available HBM (15.75G). HLO module: jit_train_step."
)
UNKNOWN_TOPOLOGIES = {
    "none": "Your TPU topology name none is invalid and does not match regex:"
    " ^([a-zA-Z0-9\\_ ]+)[=\\_:]([0-9x]+)(\\_twisted|\\_untwisted)?$",
    "v5e:3x5": 'Topology layout "v5e:3x5" is not divisible by the given (or default)'
    ' chips_per_host_bounds "2x2x1"',
    "v99:2x2": "Invalid TPU external name: TPU v99",
}


def run(*arguments, **environment):
    """As from a shell, without what the tests set for themselves."""
    inherited = {name: os.environ[name] for name in os.environ.keys() - {"TF_CPP_MIN_LOG_LEVEL"}}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**inherited, "PYTHONWARNINGS": "ignore", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
def test_each_of_two_devices_has_the_cost_of_one_with_half_the_images(forks):
    done = forks.run(["-c", COMPILED], environ=environment("jax", devices=2))
    assert not done.returncode, done.stderr[-2000:]
    one, two = map(json.loads, done.stdout.splitlines())
    assert one["flops"] > 1e8
    assert two["flops"] == pytest.approx(one["flops"], rel=0.02)
    # Three float32 for each parameter of the student, one of the teacher, and images and labels.
    assert one["arguments"] == pytest.approx(4 * (3 * 70_484 + 50_830 + 20 * 202), rel=0.02)
    assert two["arguments"] == one["arguments"]
    assert two["temporaries"] == pytest.approx(one["temporaries"], rel=0.1)


@pytest.mark.slow
def test_the_command_names_a_missing_package_or_topology():
    done = run("-m", "scripts.compile_check", "--topology=none")
    there = importlib.util.find_spec("libtpu")
    message = "topology 'none': expected" if there else "pip install libtpu"
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_errors_name_the_missing_backend_and_packages(monkeypatch):
    with pytest.raises(UserError, match="expected KERAS_BACKEND=jax"):
        aot.compile_step(recipe("digits_hard"), [None])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install jax libtpu"):
        aot.tpus("v5e:2x2")


def test_recipes_are_the_papers_with_images_for_every_chip():
    for name in aot.STUDENTS:
        row = aot.recipe_for(name, images=10, chips=4)
        assert (row.batch_size, row.teacher, row.precision) == (
            40,
            ("regnety_160",),
            "mixed_bfloat16",
        )
        assert (row.variant, row.distillation, row.optimizer) == (name, "hard", "adamw")


def test_a_row_has_the_cost_or_the_shortage_of_memory():
    cost = aot.Cost(flops=1.25e12, arguments=2**29, temporaries=3 * 2**30, seconds=61.4)
    assert aot.cost_cells(cost) == ["1.25", "0.50 GiB", "3.00 GiB", "yes", "61 s"]

    error = jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {SHORTAGE}\nAllocations:")
    assert aot.shortage_cells(error) == ["-", "-", "-", f"no: {SHORTAGE}", "-"]


@pytest.mark.parametrize("topology", UNKNOWN_TOPOLOGIES)
def test_an_unknown_topology_is_a_users_error(topology):
    message = UNKNOWN_TOPOLOGIES[topology]
    error = aot.unknown_topology(
        topology, jax.errors.JaxRuntimeError(f"INVALID_ARGUMENT: {message}")
    )
    assert str(error).startswith(
        f"topology '{topology}': expected one that libtpu knows, such as v5e"
    )
    assert str(error).endswith(message)


@pytest.mark.parametrize("text", ["INTERNAL: a bug, not INVALID_ARGUMENT", "", "no status"])
def test_other_errors_of_the_compiler_are_raised_again(text):
    error = jax.errors.JaxRuntimeError(text)
    with pytest.raises(jax.errors.JaxRuntimeError) as raised:
        aot.shortage_cells(error)
    assert raised.value is error
    with pytest.raises(jax.errors.JaxRuntimeError) as raised:
        aot.unknown_topology("v5e:2x2", error)
    assert raised.value is error
