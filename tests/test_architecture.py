"""The shape of the house: which package may import which."""

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# A package imports only from the sets before its own.
SETS = [
    {"utils"},
    {"configs", "distribution"},
    {"data", "distillation"},
    {"models", "evaluation"},
    {"weights"},
    {"training", "exports"},
    {"tools"},  # and the face, keras_deit/__init__.py
]
TABLES = [*(ROOT / "keras_deit" / "configs").glob("*.py"), ROOT / "transfer" / "tasks.py"]
TABLES_IMPORT = ("keras_deit.configs", "keras_deit.utils.errors", "keras_deit.utils.paths")
# What may import torch, which is optional. Modules of the PyTorch backend do it at once, and only
# the trainer imports them, on that backend; the others in a function, when it is called.
TORCH_BACKEND = ("distillation/torch_trainer.py", "utils/torch_private.py")
TORCH_IN_FUNCTIONS = (
    "weights/torch_files.py",  # .pth files
    "utils/gradients.py",
    "tools/benchmarks.py",
    "tools/contenders.py",  # timm, to compare with
    "tools/peers.py",
)
IMPORT_TORCH = (*TORCH_BACKEND, *TORCH_IN_FUNCTIONS)


def imports(path, nodes=ast.walk):
    """Every module that a file imports, inside functions too: ``a.b`` of ``from a import b``. With
    ``nodes=ast.iter_child_nodes``, the ones that it imports as soon as it is imported."""
    for node in nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(folder):
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    return paths


def rank(package):
    return next((i for i, packages in enumerate(SETS) if package in packages), None)


def test_every_module_is_in_a_package():
    entries = (ROOT / "keras_deit").iterdir()
    names = {path.name for path in entries if path.is_dir() or path.suffix == ".py"}
    assert names - {"__init__.py", "__pycache__"} == set().union(*SETS)


def test_imports_point_one_way():
    for path in files("keras_deit"):
        package = path.relative_to(ROOT / "keras_deit").parts[0]
        if package == "__init__.py":
            continue
        for name in imports(path):
            root, *rest = name.split(".")
            if root == "keras_deit" and rest[0] != package:
                imported = rank(rest[0])
                assert imported is not None, f"{path} imports {name}: import it from its package"
                assert imported < rank(package), f"{path} imports {name}"


@pytest.mark.parametrize(
    ("folder", "never"),
    [
        ("keras_deit", {"transfer", "scripts", "tests", "absl", "torch", "timm"}),
        ("transfer", {"scripts", "tests", "absl", "torch", "timm"}),
        ("scripts", {"tests", "torch", "timm"}),
    ],
)
def test_the_library_knows_no_commands_and_no_torch(folder, never):
    for path in files(folder):
        allowed = {"torch", "timm"} if path.as_posix().endswith(IMPORT_TORCH) else set()
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & (never - allowed), path


def test_only_the_torch_backend_imports_torch_at_once():
    modules = tuple(f"keras_deit.{path[:-3].replace('/', '.')}" for path in TORCH_BACKEND)

    for path in files("keras_deit"):
        if not path.as_posix().endswith(TORCH_BACKEND):
            at_once = imports(path, ast.iter_child_nodes)
            assert "torch" not in {name.split(".")[0] for name in at_once}, path

        if any(name.startswith(modules) for name in imports(path)):
            assert path.name in ("trainer.py", "torch_trainer.py"), path


def test_torch_is_no_requirement():
    for name in ("requirements.txt", "pyproject.toml"):
        assert "torch" not in (ROOT / name).read_text()


def test_only_commands_use_the_tools():
    for path in (*files("keras_deit"), *files("transfer")):
        if "tools" not in path.relative_to(ROOT).parts:
            assert not any(name.startswith("keras_deit.tools") for name in imports(path)), path


def test_tables_import_only_tables_and_errors():
    for path in TABLES:
        ours = {name for name in imports(path) if name.startswith(("keras_deit", "transfer"))}
        assert all(name.startswith(TABLES_IMPORT) for name in ours), path


def test_models_and_losses_are_on_keras_ops():
    paths = [*files("keras_deit/models"), ROOT / "keras_deit/training/optimizers.py"]
    paths.remove(ROOT / "keras_deit/models/tensorflow_operations.py")  # of operations.py, faster
    paths += [ROOT / "keras_deit/distillation" / name for name in ("losses.py", "teacher.py")]
    for path in paths:
        assert not {"tensorflow", "jax", "torch"} & {
            name.split(".")[0] for name in imports(path)
        }, path


STANDALONE = ("on_device.py", "serving.py")


@pytest.mark.parametrize("path", files("scripts"), ids=lambda path: path.name)
def test_commands_are_thin(path):
    most = 100 if path.name in STANDALONE else 62  # an example has no package to leave its work to
    assert len(path.read_text().splitlines()) <= most


@pytest.mark.slow
def test_importing_costs_no_more_than_keras_and_tensorflow():
    code = """
import sys, time, tensorflow, keras
tensorflow.data, keras.Model  # TensorFlow loads lazily
before, start = set(sys.modules), time.process_time()
import keras_deit
assert time.process_time() - start < 0.5, time.process_time() - start
imported = set(sys.modules) - before
assert not imported & {"tensorflow_datasets", "matplotlib", "sklearn", "PIL", "torch"}
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
