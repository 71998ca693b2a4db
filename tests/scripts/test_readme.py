"""What every README.md shows: its commands and Python blocks run, its tables and paths are true."""

import dataclasses
import os
import re
import shlex

import pytest
from PIL import Image

import keras_deit as kd
from tests.conftest import ROOT, TINY
from transfer import TASKS

# In this order, as commands use the models that earlier ones trained.
FIRST = ["README.md", "keras_deit/training/README.md"]
FOLDERS = ["keras_deit", "scripts", "tests", "transfer"]
OTHERS = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("README.md"))]
PAGES = list(dict.fromkeys([*FIRST, *(path.relative_to(ROOT).as_posix() for path in OTHERS)]))
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}

# What the Python blocks of a page leave behind.
WRITTEN = {
    "README.md": ["student.keras", "model.tflite", "runs/tuned/report.md"],
    "keras_deit/weights/README.md": ["tiny/config.json"],
}


def find_blocks(page, language):
    """The contents of the blocks that are marked with a language, "" for none."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", TEXTS[page], re.DOTALL | re.MULTILINE)
    return [content for name, content in blocks if name == language]


def find_commands():
    """The commands of all ``sh`` blocks, as (page, words)."""
    for page in PAGES:
        lines = "".join(find_blocks(page, "sh")).replace("\\\n", "").splitlines()
        for line in lines:
            if words := shlex.split(line, comments=True):
                yield page, words


COMMANDS = list(find_commands())
PYTHON_COMMANDS = [words[1:] for _, words in COMMANDS if words[:2] == ["python", "-m"]]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The environment of a process whose Hub's cache holds one published model."""
    home = tmp_path_factory.mktemp("hub")
    cache = home / "hub" / "models--timm--deit_tiny_distilled_patch16_224.fb_in1k"
    snapshot = cache / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0" * 40)
    model = kd.build("deit_tiny_distilled_patch16_224")
    kd.save_pretrained(model, snapshot / "model.safetensors")

    return {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What the commands call runs/, and a trained teacher's file in it."""
    folder = tmp_path_factory.mktemp("runs")
    kd.build("regnety_digits").save(folder / "teacher.keras")
    return folder


def shorten(words, runs):
    """A command with its outputs in ``runs``; training takes three steps."""
    words = [word.replace("runs/", f"{runs}/") for word in words]
    if words[1] in ("scripts.train", "scripts.label", "scripts.transfer"):
        words = ["--seeds=1" if word.startswith("--seeds=") else word for word in words]
        words += [f"--set={setting}" for setting in (*TINY, "run_eagerly=true")]
        if "--recipe=digits_0to4" in words:
            words += ["--set=train_fraction=0.2"]
        if "--recipe=digits_hard" in words:
            words += [f"--set=teacher={runs / 'teacher.keras'}"]
    if words[1] == "scripts.export":
        words += ["--agreement=0.5"]  # of a model of three steps
    return words


@pytest.mark.slow
@pytest.mark.parametrize("words", PYTHON_COMMANDS, ids=" ".join)
def test_a_command_runs(words, forks, hub, runs):
    done = forks.run(shorten(words, runs), environ=hub)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if find_blocks(page, "python")])
def test_the_python_blocks_of_a_page_run(page, forks, hub, photographs, tmp_path):
    Image.fromarray(photographs[0]).save(tmp_path / "photo.jpg")
    done = forks.run(["-c", "\n".join(find_blocks(page, "python"))], tmp_path, hub)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in WRITTEN.get(page, []):
        assert (tmp_path / name).exists(), name


MIXED = """
import keras
keras.config.set_dtype_policy("mixed_bfloat16")
"""
CHECKS = """
import pathlib
import numpy as np
from keras_deit.exports import formats, litert
from keras_deit.models.policies import is_float32, layer_policy
from keras_deit.utils.keras_private import all_layers

assert all(layer_policy(layer).name == "mixed_bfloat16" for layer in all_layers(model))
images = np.random.default_rng(0).normal(size=(4, *model.image_size, 3)).astype("float32")

# What is saved is what was trained, in its precision.
student = keras.saving.load_model("student.keras")
np.testing.assert_array_equal(student(images), model(images))
assert not hasattr(student, "teacher") and not student.compiled

# A recipe of float32 gives float32 models, and files are float32.
assert is_float32(tuned) and is_float32(kd.load("runs/tuned/last.keras"))
expected = np.array(tuned(images))
logits = formats.load(litert, pathlib.Path("model.tflite"))(images[:1])
assert np.abs(logits - expected[:1]).max() < 1e-4 * expected.std()

# The downloaded model predicts what it predicts in float32, up to rounding.
keras.config.set_dtype_policy("float32")
((_, _, probabilities32),) = predict(kd.load(published), ["photo.jpg"])
assert 0 < np.abs(probabilities - probabilities32).max() < 0.02 * probabilities32.max()
"""


@pytest.mark.slow
def test_the_readme_runs_under_mixed_precision(forks, hub, photographs, tmp_path):
    """Its first cell is followed by one that makes mixed precision Keras' global policy."""
    Image.fromarray(photographs[0]).save(tmp_path / "photo.jpg")
    published = 'published = "deit_tiny_distilled_patch16_224"'
    blocks = find_blocks("README.md", "python")
    code = "\n".join([MIXED, published, *blocks, CHECKS])
    done = forks.run(["-c", code], tmp_path, hub)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"'fused': Scores\(.*?top1=[01]\.\d", done.stdout), done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "page"), [("models", "README.md"), ("tasks", "transfer/README.md")]
)
def test_the_tables_of_models_and_tasks_are_the_printed_ones(command, page, forks):
    done = forks.run(["-m", f"scripts.{command}"])
    assert done.returncode == 0, done.stderr
    assert done.stdout in TEXTS[page]


def test_the_shell_commands_exist():
    names = {words[0] for _, words in COMMANDS} - {"python"}
    assert names == {"scripts/quickstart", "scripts/test"}
    for name in names:
        assert os.access(ROOT / name, os.X_OK), name


def read_with_helpers(path):
    """The text of a command, and of the modules beside it that it imports."""
    text = path.read_text()
    helpers = re.findall(r"^from scripts import (.*?)(?:  #.*)?$", text, re.MULTILINE)
    names = {name for line in helpers for name in line.split(", ")}
    return "".join([text, *((path.parent / f"{name}.py").read_text() for name in sorted(names))])


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text_have_these_flags(page):
    text = TEXTS[page].replace("\\\n", " ")
    for name, rest in re.findall(r"python -m (scripts\.\w+|tests\.programs\.\w+)([^`\n]*)", text):
        source = read_with_helpers(ROOT / f"{name.replace('.', '/')}.py")
        known = re.findall(r'DEFINE_\w+\(\s*"(\w+)"|"--(\w+)"', source)
        flags = dict(re.findall(r"--(\w+)=(\S*)", rest))
        assert flags.keys() <= {flag for pair in known for flag in pair}, name
        for flag, rows in (("recipe", kd.RECIPES), ("task", {*TASKS, "paper", "folder:photos"})):
            assert flags.get(flag, "...") in {*rows, "..."}

    fields = {field.name for field in dataclasses.fields(kd.Recipe)}
    assert {*re.findall(r"--set[= ](\w+)=", text)} <= fields | {"field"}


def test_every_command_is_in_the_table_of_commands():
    files = [path for path in (ROOT / "scripts").glob("*.py") if "__main__" in path.read_text()]
    names = {f"python -m scripts.{path.stem}" for path in files}
    listed = re.findall(r"^\| `(.*?)`", TEXTS["scripts/README.md"], re.MULTILINE)
    assert set(listed) == names | {"scripts/quickstart", "scripts/test"}


def test_the_layout_lists_every_package():
    (layout,) = re.findall(r"## Layout\n\n```\n(.*?)```", TEXTS["README.md"], re.DOTALL)
    listed = re.findall(r"^( *)(\w+)/", layout, re.MULTILINE)
    packages = {path.parent.name for path in (ROOT / "keras_deit").glob("*/__init__.py")}
    assert {name for indent, name in listed if indent} == packages
    assert {name for indent, name in listed if not indent} == set(FOLDERS)


@pytest.mark.parametrize("page", [page for page in PAGES if "## Files" in TEXTS[page]])
def test_the_files_of_a_package_are_listed(page):
    (block,) = re.findall(r"## Files\n\n```\n(.*?)```", TEXTS[page], re.DOTALL)
    listed = {line.split()[0].rstrip("/") for line in block.splitlines()}
    folder = (ROOT / page).parent
    modules = {path.name for path in folder.glob("*.py") if not path.name.startswith("test_")}
    if folder.name != "tests":
        modules |= {path.parent.name for path in folder.glob("*/__init__.py")}
    assert listed == modules - {"__init__.py"}


@pytest.mark.parametrize("page", PAGES)
def test_the_paths_in_the_text_exist(page):
    folder = (ROOT / page).parent
    links = re.findall(r"\]\(((?!http)[^)]+)\)", TEXTS[page])
    paths = re.findall(r"`((?:keras_deit|scripts|tests|transfer)/[\w/.]+)`", TEXTS[page])
    for path in (
        *(folder / link.partition("#")[0] for link in links),
        *(ROOT / path for path in paths),
    ):
        assert path.exists(), path


def test_the_readme_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 150
