"""What README.md says can be typed, typed."""

import os
import re
import shlex
import subprocess
import sys

import pytest

import keras_deit as kd
from tests.conftest import ROOT, TINY

README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    """An environment whose Hugging Face cache holds the model that README.md loads by name."""
    home = tmp_path_factory.mktemp("hub")
    cache = home / "hub" / "models--timm--deit_tiny_distilled_patch16_224.fb_in1k"
    snapshot = cache / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0" * 40)
    model = kd.build("deit_tiny_distilled_patch16_224")
    kd.save_pretrained(model, snapshot / "model.safetensors")
    return {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}


@pytest.mark.slow
def test_python_blocks_run(tmp_path, data_dir, hub):
    code = "\n".join(blocks("python"))
    assert "distillation=" in code
    environment = {"PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(data_dir), "PATH": "", **hub}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert (tmp_path / "student.keras").exists()
    assert (tmp_path / "tiny" / "config.json").exists()


def commands():
    text = "".join(blocks("sh")).replace("\\\n", "")
    lines = [line.split("  #")[0] for line in text.splitlines()]
    return [shlex.split(line) for line in lines if line]


def training(words, data_dir, folder):
    """The shortest form of a command that trains."""
    words = ["--seeds=1" if word.startswith("--seeds=") else word for word in words]
    settings = [f"--set={setting}" for setting in (*TINY, "run_eagerly=true")]
    if "--recipe=digits_hard" in words:
        kd.build("regnety_digits").save(folder / "teacher.keras")
        settings.append(f"--set=teacher={folder / 'teacher.keras'}")
    return [*words, f"--data_dir={data_dir}", *settings]


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.mark.slow
@pytest.mark.parametrize("words", [c for c in commands() if c[0] == "python"], ids=" ".join)
def test_commands_run(words, tmp_path, runs, data_dir, hub):
    words = [re.sub("runs/", f"{runs}/", word) for word in words[1:]]
    if {"scripts.train", "scripts.transfer"} & set(words):
        words = training(words, data_dir, tmp_path)
    if "scripts.export" in words:
        words = [*words, "--agreement=0.5"]  # of a model of three steps
    environment = {**os.environ, **hub, "TFDS_DATA_DIR": str(data_dir)}
    subprocess.run([sys.executable, *words], check=True, cwd=ROOT, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["models", "tasks"])
def test_the_models_and_tasks_are_those_of_the_tables(name):
    printed = subprocess.run(
        [sys.executable, "-m", f"scripts.{name}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert printed.stdout in README


def test_every_command_is_there():
    for words in commands():
        name = words[0] if words[0] != "python" else words[2].replace(".", "/") + ".py"
        assert (ROOT / name).exists(), words


def test_the_layout_is_the_layout():
    (layout,) = re.findall(r"## Layout\n\n```\n(.*?)```", README, re.DOTALL)
    names = re.findall(r"\b\w+\.py\b|\b\w+/|^BUILD\b", layout, re.MULTILINE)
    assert len(names) > 15
    for name in names:
        assert list(ROOT.rglob(name.rstrip("/"))), name
