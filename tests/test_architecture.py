"""Holds the shape of the house: which module may import which."""

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# A module may import those of the lines above its own.
LAYERS = [
    {"errors", "signals", "variants"},
    {"files"},
    {"recipe", "processes"},
    {"recipes", "optimizers", "replicas"},
    {"strategies", "workdirs", "layers", "distillation", "optimization", "data"},
    {"tensorflow_steps", "jax_steps"},
    {"steps"},
    {"model", "teachers"},
    {"factory", "evaluation"},
    {"checkpoints", "journal", "plots", "prediction"},
    {"freezing", "exports"},
    {"assembly"},
    {"benchmarks", "plans", "reports"},
    {"training"},
    {"ablation", "aot"},
]
TABLES = ("keras_deit/configs/variants.py", "keras_deit/configs/recipes.py", "transfer/tasks.py")
KNOWN = {"keras_deit.configs.recipe", "keras_deit.configs.recipe.Recipe"}


def imports(path):
    """Every module a file imports, functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(*folders):
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert found
    return found


def rank(name):
    return next((i for i, layer in enumerate(LAYERS) if name in layer), None)


def test_every_module_has_its_place():
    names = {path.relative_to(ROOT / "keras_deit").parts[0] for path in files("keras_deit")}
    names = {name.removesuffix(".py") for name in names} - {"__init__", "__pycache__"}
    assert names == set().union(*LAYERS)


def test_imports_point_one_way():
    for path in files("keras_deit"):
        module = path.relative_to(ROOT / "keras_deit").parts[0].removesuffix(".py")
        if module == "__init__":
            continue
        for imported in imports(path):
            parts = imported.split(".")
            if parts[0] != "keras_deit" or len(parts) == 1:
                continue
            below = rank(parts[1])
            if below is not None and parts[1] != module:
                assert below < rank(module), f"{path.name} imports {imported}"


def test_the_library_knows_no_commands_tasks_or_torch():
    for path in files("keras_deit"):
        roots = {name.split(".")[0] for name in imports(path)}
        # To read a .pth, and to compare with.
        known = {"torch", "timm"} if path.name in ("formats.py", "benchmarks.py") else set()
        assert not roots & ({"absl", "transfer", "scripts", "tests", "torch", "timm"} - known), path


def test_tables_import_tables_and_errors_alone():
    for table in TABLES:
        ours = {n for n in imports(ROOT / table) if n.split(".")[0] in ("keras_deit", "transfer")}
        assert ours <= KNOWN, table


def test_layers_are_on_keras_ops_alone():
    for name in ("layers", "distillation", "teachers", "optimization", "optimizers", "factory"):
        roots = {n.split(".")[0] for n in imports(ROOT / "keras_deit" / f"{name}.py")}
        assert "tensorflow" not in roots


@pytest.mark.parametrize("path", files("scripts"), ids=lambda path: path.name)
def test_commands_are_thin(path):
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.slow
def test_importing_costs_no_more_than_keras_and_tensorflow():
    code = """
import sys, time, tensorflow, keras
tensorflow.data, keras.Model  # TensorFlow loads lazily
before, start = set(sys.modules), time.perf_counter()
import keras_deit
assert time.perf_counter() - start < 0.3, time.perf_counter() - start
assert not {"tensorflow_datasets", "matplotlib", "sklearn", "PIL"} & (set(sys.modules) - before)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
