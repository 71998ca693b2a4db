"""The commands as a user types them."""

import os
import subprocess
import sys

import numpy as np
import pytest

import keras_deit as kd
from tests.conftest import ROOT, TINY


def command(*arguments, **options):
    """Runs a command as from a shell, without what the tests set for themselves."""
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def case(*arguments, says, fast=False):
    return pytest.param(arguments, says, marks=[] if fast else pytest.mark.slow, id=says)


RUN = ("--recipe=digits_none", "--workdir=w")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        case("--recipe=digits", "--workdir=w", says="should be one of <digits_teacher|digits_none"),
        case("--workdir=w", says="--recipe must have a value"),
        case("--recipe=digits_none", says="--workdir must have a value"),
        case(*RUN, "--speed=9", says="Unknown command line flag 'speed'"),
        case(*RUN, "extra", says="unexpected 'extra'"),
        case(*RUN, "--set=pace=1", says="unknown field 'pace'", fast=True),
        case(*RUN, "--set=lr=fast", says="lr='fast': expected a number"),
        case("--recipe=digits_none", "--workdir=LICENSE/w", says="expected a folder to write in"),
        case("--recipe=digits_none", "--workdir=LICENSE", says="workdir LICENSE is a file"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(arguments, says):
    done = command("scripts.train", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert not (ROOT / "w").exists()


@pytest.mark.slow
def test_convert_writes_what_load_reads(tmp_path):
    model = kd.build("deit_digits_distilled")
    model.save(tmp_path / "a.keras")

    def convert(source, output, *more):
        where = f"--model={tmp_path / source}", f"--output={tmp_path / output}"
        return command("scripts.convert", *where, *more)

    variant = "--variant=deit_digits_distilled"
    assert convert("a.keras", "b.safetensors").returncode == 0
    assert convert("b.safetensors", "c.weights.h5", variant).returncode == 0
    assert convert("c.weights.h5", "d.keras", variant, "--image_size=8,16").returncode == 0
    assert kd.load(tmp_path / "d.keras").image_size == (8, 16)
    np.testing.assert_array_equal(kd.load(tmp_path / "d.keras").head.kernel, model.head.kernel)
    for done, says in (
        (convert("a.keras", "b.safetensors"), "b.safetensors exists"),
        (convert("a.keras", "b.safetensors/e.keras"), "cannot write"),
        (convert("a.keras", "e.onnx"), "expected .keras, .weights.h5, .safetensors or a folder"),
        (convert("a.keras", "e.keras", "--image_size=large"), "expected pixels"),
    ):
        assert done.returncode == 2
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*e.*"))


@pytest.mark.slow
def test_help_lists_the_recipes():
    # absl breaks the line at dashes and columns, not at bars.
    said = "".join(command("scripts.train", "--help").stdout.split())
    assert f"<{'|'.join(kd.RECIPES)}>" in said


@pytest.mark.slow
def test_a_run_prints_its_plan_and_its_scores(tmp_path, data_dir):
    settings = [f"--set={setting}" for setting in (*TINY, "run_eagerly=true")]
    done = command(
        "scripts.train",
        "--recipe=digits_none",
        f"--workdir={tmp_path / 'run'}",
        f"--data_dir={data_dir}",
        *settings,
    )
    assert done.returncode == 0, done.stderr
    for text in ("90 training and 360 validation images", "3 x 2 epochs", "0.0046875 at 60"):
        assert text in done.stdout
    assert done.stdout.index("learning rate") < done.stdout.index("Epoch 1/2")
    assert "digits validation: class " in done.stdout
