"""A step compiled ahead of time. Where libtpu is not installed, for this host's own devices."""

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

COMPILED = """
import dataclasses, json
import jax
from keras_deit import aot
from tests.conftest import recipe

for devices in (jax.devices()[:1], jax.devices()):
    row = recipe("digits_hard", f"batch_size={20 * len(devices)}")
    print(json.dumps(dataclasses.asdict(aot.compiled(row, devices))))
"""
SHORTAGE = (  # libtpu 0.0.52
    "Ran out of memory on HBM, the total memory required for HLO temporaries (43.71G) exceeds"
    " available HBM (15.75G). HLO module: jit_train_step."
)


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
def test_twice_the_images_on_two_devices_are_as_much_for_each():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = run("-c", COMPILED, KERAS_BACKEND="jax", **flags)
    assert not done.returncode, done.stderr[-2000:]
    one, two = map(json.loads, done.stdout.splitlines())
    assert one["flops"] > 1e8
    assert two["flops"] == pytest.approx(one["flops"], rel=0.02)
    # Three float32 for each parameter of the student, one of the teacher, and images and labels.
    assert one["arguments"] == pytest.approx(4 * (3 * 70_484 + 50_830 + 20 * 202), rel=0.02)
    assert two["arguments"] == one["arguments"]
    assert two["temporaries"] == pytest.approx(one["temporaries"], rel=0.1)


def test_without_libtpu_the_command_says_what_to_install():
    done = run("-m", "scripts.compile_check", "--topology=none")
    there = importlib.util.find_spec("libtpu")
    says = "topology 'none': expected" if there else "pip install libtpu"
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_missing_is_said(monkeypatch):
    with pytest.raises(UserError, match="expected KERAS_BACKEND=jax"):
        aot.compiled(recipe("digits_hard"), [None])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install jax libtpu"):
        aot.tpus("v5e:2x2")


def test_rows_are_of_the_paper_on_every_chip():
    for name in aot.TAUGHT:
        row = aot.planned(name, 10, 4)
        assert (row.batch_size, row.teacher, row.precision) == (40, "regnety_160", "mixed_bfloat16")
        assert (row.variant, row.distillation, row.optimizer) == (name, "hard", "adamw")


def test_a_row_tells_cost_or_shortage_and_another_error_is_none():
    cost = aot.Cost(flops=1.25e12, arguments=2**29, temporaries=3 * 2**30, seconds=61.4)
    assert aot.of_cost(cost) == "1.25 | 0.50 GiB | 3.00 GiB | yes | 61 s"
    kind = jax.errors.JaxRuntimeError
    row = aot.of_shortage(kind(f"RESOURCE_EXHAUSTED: {SHORTAGE}\nAllocations:"))
    assert row == f"- | - | - | no: {SHORTAGE} | -"
    with pytest.raises(kind, match="INTERNAL"):
        aot.of_shortage(kind("INTERNAL: a bug"))
