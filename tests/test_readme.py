"""What README.md says can be typed, typed."""

import re
import shlex
import subprocess
import sys

import pytest

from tests.conftest import ROOT, TINY

README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_python_blocks_run(tmp_path, data_dir):
    code = "\n".join(blocks("python"))
    assert "distillation=" in code
    environment = {"PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(data_dir), "PATH": ""}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert (tmp_path / "student.keras").exists()


def commands():
    lines = [line.split("  #")[0] for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line]


@pytest.mark.slow
@pytest.mark.parametrize("words", [c for c in commands() if c[0] == "python"], ids=" ".join)
def test_commands_run(words, tmp_path, data_dir):
    words = [re.sub("runs/", f"{tmp_path}/", word) for word in words[1:]]
    settings = [f"--set={setting}" for setting in (*TINY, "run_eagerly=true")]
    if "--recipe=digits_hard" in words:
        import keras_deit as kd

        kd.build("regnety_digits").save(tmp_path / "teacher.keras")
        settings.append(f"--set=teacher={tmp_path / 'teacher.keras'}")
    arguments = [*words, f"--data_dir={data_dir}", *settings]
    subprocess.run([sys.executable, *arguments], check=True, cwd=ROOT)


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
