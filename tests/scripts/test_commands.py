"""The commands as a user types them."""

import os
import subprocess
import sys

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.exports import QUANTIZATIONS
from keras_deit.tools import ablation, aot, model_benchmark
from keras_deit.training.labeling import TOP_K
from keras_deit.utils import tables
from tests.conftest import ROOT, TINY


def run_as_from_a_shell(*words, options=()):
    """Runs a command in a new process, without what the tests set for themselves."""
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, *options, "-m", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_one_line_error(done, message):
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


@pytest.mark.slow
def test_a_mistake_ends_in_one_line_and_an_exit_code():
    done = run_as_from_a_shell("scripts.train", *RUN, "--set=pace=1")
    assert_one_line_error(done, "unknown field 'pace'")
    assert not (ROOT / "w").exists()


RUN = ("--recipe=digits_none", "--workdir=w")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--recipe=digits", "--workdir=w"),
            "unknown recipe 'digits': expected one of digits_t",
        ),
        (("--workdir=w",), "--recipe must have a value"),
        (("--recipe=digits_none",), "--workdir must have a value"),
        ((*RUN, "--speed=9"), "Unknown command line flag 'speed'"),
        ((*RUN, "extra"), "unexpected 'extra'"),
        ((*RUN, "--set=lr=fast"), "lr='fast': expected a number"),
        (("--recipe=digits_none", "--workdir=LICENSE/w"), "expected a folder to write in"),
        (("--recipe=digits_none", "--workdir=LICENSE"), "workdir LICENSE is a file"),
    ],
)
def test_each_kind_of_mistake_ends_in_one_line(forks, arguments, message):
    assert_one_line_error(forks.run(["-m", "scripts.train", *arguments]), message)
    assert not (ROOT / "w").exists()


@pytest.mark.slow
def test_convert_writes_files_that_load_reads(forks, tmp_path):
    model = kd.build("deit_digits_distilled")
    model.save(tmp_path / "a.keras")

    def convert(source, output, *more):
        paths = f"--model={tmp_path / source}", f"--output={tmp_path / output}"
        return forks.run(["-m", "scripts.convert", *paths, *more])

    variant = "--variant=deit_digits_distilled"
    assert convert("a.keras", "b.safetensors").returncode == 0
    assert convert("b.safetensors", "c.weights.h5", variant).returncode == 0
    assert convert("c.weights.h5", "d.keras", variant, "--image_size=8,16").returncode == 0
    assert kd.load(tmp_path / "d.keras").image_size == (8, 16)
    np.testing.assert_array_equal(kd.load(tmp_path / "d.keras").head.kernel, model.head.kernel)

    tokens = "--change_tokens"
    assert convert("a.keras", "plain.safetensors", tokens).returncode == 0
    plain = kd.load(tmp_path / "plain.safetensors")
    assert not plain.distilled
    np.testing.assert_array_equal(plain.norm.gamma, model.norm.gamma)
    assert convert("plain.safetensors", "back.keras", variant, tokens).returncode == 0
    assert kd.load(tmp_path / "back.keras").distilled

    for done, message in (
        (convert("a.keras", "b.safetensors"), "b.safetensors exists"),
        (convert("a.keras", "b.safetensors/e.keras"), "cannot write"),
        (convert("a.keras", "e.onnx"), "expected .keras, .weights.h5, .safetensors or a folder"),
        (convert("a.keras", "e.keras", "--image_size=large"), "expected pixels"),
    ):
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*e.*"))


@pytest.mark.slow
def test_a_tilde_in_a_flag_is_the_home_folder(forks, tmp_path):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    kd.build("deit_digits").save(home / "a.keras")

    def run(*words):
        return forks.run(["-m", *words], here, {"HOME": str(home)})

    done = run("scripts.convert", "--model=~/a.keras", "--output=~/b.safetensors")
    assert done.returncode == 0, done.stderr
    done = run("scripts.train", "--recipe=digits_hard", "--workdir=~/run", "--set=teacher=~/a.pth")
    assert_one_line_error(done, f"teacher '{home}/a.pth': expected a published model")
    assert {path.name for path in home.glob("[a-z]*")} == {"a.keras", "b.safetensors", "run"}
    assert not list(here.iterdir())


IMPORT_ALL = """
import importlib, pathlib, sys
from absl import flags
from scripts import command

own = set(flags.FLAGS)
for path in sorted(pathlib.Path("scripts").glob("*.py")):
    importlib.import_module(f"scripts.{path.stem}")
    for flag in set(flags.FLAGS) - own:  # another command may have a flag of the same name
        delattr(flags.FLAGS, flag)
heavy = {"jax", "keras", "keras_deit", "matplotlib", "tensorflow", "torch", "transfer"}
print(len(sys.modules), sorted(heavy & sys.modules.keys()))
"""


def test_commands_import_the_library_only_in_their_main():
    """--help and errors of flags would wait seconds for TensorFlow."""
    arguments = [sys.executable, "-c", IMPORT_ALL]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    count, heavy = done.stdout.split(maxsplit=1)
    assert int(count) > 100
    assert heavy == "[]\n"


def test_help_imports_nothing_heavy():
    done = run_as_from_a_shell("scripts.train", "--help", options=["-X", "importtime"])
    assert done.returncode == 0
    assert "--recipe: Recipe to train" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "absl.flags" in imported
    assert not imported & {"keras_deit", "keras", "tensorflow"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "texts"),
    [
        ("benchmark", [f"default:'{model_benchmark.ROUNDS}'", model_benchmark.STUDENT]),
        ("benchmark", [f"Default:{model_benchmark.VARIANT}"]),
        ("compile_check", [f"<{'|'.join(aot.STUDENTS)}>"]),
        ("evaluate", ["--model:"]),  # a flag that is shared with other commands
        ("export", ["--model:", f"<{'|'.join(QUANTIZATIONS)}>"]),
        ("label", [f"default:'{TOP_K}'"]),
        ("predict", ["--model:"]),
    ],
)
def test_help_has_the_names_and_defaults_of_the_library(forks, command, texts):
    done = forks.run(["-m", f"scripts.{command}", "--help"])
    help_text = "".join(done.stdout.split())  # absl breaks lines at dashes and columns
    for text in texts:
        assert text in help_text


@pytest.mark.slow
def test_a_run_prints_its_plan_and_its_scores(forks, tmp_path, data_dir):
    settings = [f"--set={setting}" for setting in (*TINY, "run_eagerly=true")]
    paths = f"--workdir={tmp_path / 'run'}", f"--data_dir={data_dir}"
    done = forks.run(["-m", "scripts.train", "--recipe=digits_none", *paths, *settings])
    assert done.returncode == 0, done.stderr
    for text in ("90 training and 360 validation images", "3 x 2 epochs", "0.0046875 at 60"):
        assert text in done.stdout
    assert done.stdout.index("learning rate") < done.stdout.index("Epoch 1/2")
    assert "digits validation: class " in done.stdout


@pytest.mark.slow
def test_quickstart_prints_plain_lines_and_a_table(tmp_path):
    """Into a file or a pipe, in which control characters and TensorFlow's messages are noise."""
    settings = [f"--set={setting}" for setting in ("epochs=1", *TINY[1:], "run_eagerly=true")]
    command = ["scripts.distil_digits", "--seeds=1", f"--output={tmp_path}", *settings]
    done = run_as_from_a_shell(*command)
    assert (done.returncode, done.stderr) == (0, "")

    progress, *_ = done.stdout.partition("\nTop-1 in percent on the 539 test images")
    lines = progress.splitlines()
    assert all(line.startswith("epoch ") for line in lines)
    assert lines[-1].startswith("epoch 4 of 4, after ")
    assert not set(done.stdout) & set("\r\b\x1b")

    rows = tables.read_csv(tmp_path / "results.csv")
    assert [row["method"] for row in rows] == ["teacher", "none", "soft", "hard"]
    assert [row["distillation"] is None for row in rows] == [True, True, False, False]
    assert (tmp_path / "results.md").read_text() in done.stdout
    assert (tmp_path / "disagreement.md").read_text() in done.stdout
    assert "hard, distillation, decides differently from teacher on " in done.stdout
    for name in ("learning_curves.png", "attention_maps.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert ablation.run_folder(tmp_path, "hard", 0).joinpath("last.keras").exists()


@pytest.mark.slow
def test_a_folder_without_splits_and_without_unicode_is_predicted_and_scored(forks, tmp_path):
    folders = [tmp_path / "images" / name for name in ("caf\udce9", "th\udce9")]
    for folder in folders:
        folder.mkdir(parents=True)
        for i in range(5):
            (folder / f"{i}\udcff.gif").write_bytes(b"P5 1 1 255 " + bytes([i]))
    names = tuple(folder.name for folder in folders)
    model = kd.DeiT(16, patch_size=8, width=12, depth=1, heads=3, num_classes=2, class_names=names)
    model.save(tmp_path / "a.keras")

    flag = f"--model={tmp_path / 'a.keras'}"
    done = forks.run(["-m", "scripts.predict", flag, str(tmp_path / "images")])
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 10
    for line in lines:
        assert "\\udcff.gif: " in line
        assert "caf\\udce9 " in line.partition(": ")[2]

    done = forks.run(["-m", "scripts.evaluate", flag, f"--dataset=folder:{tmp_path / 'images'}"])
    assert done.returncode == 0, done.stderr
    assert f"10 images of folder:{tmp_path / 'images'} all, 16x16" in done.stdout
