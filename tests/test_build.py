"""BUILD says of every Python file what it imports, no more and no less.

A target needs the targets of the files, and the packages, that its own files import, wherever in
them. ``import a.b`` is an import of a/b.py or a/b/__init__.py; that it runs a/__init__.py as well
does not count. A string that is the dotted name of one of our files counts as an import of it.
"""

import ast
import pathlib
import re
import sys

import pytest
import starlark

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("keras_deit", "scripts", "tests", "transfer")
PACKAGES = {  # what an import needs, where it is not the one package of that name
    "PIL": "pillow",
    "absl": "absl_py",
    "cv2": "opencv_python_headless",
    "keras": "keras tensorflow",  # the backend, which it does not require
    "sklearn": "scikit_learn",
    "starlark": "starlark_pyo3",
    # The first three it does not require, or not on every platform.
    "tensorflow_datasets": "array_record importlib_resources tensorflow tensorflow_datasets",
    # No requirements of the project: for goldens and comparisons, and torch to read a .pth.
    "timm": "",
    "torch": "",
    "transformers": "",
    "torchvision": "",
}


def problems(root):
    """What is wrong with ``root``/BUILD, in lines that say where, what and what to do."""
    texts = {
        path.relative_to(root).as_posix(): path.read_text()
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*.py"))
    }
    names = re.findall(r"^[\w.-]+", (root / "requirements.txt").read_text(), re.MULTILINE)
    required = {f"@pypi//{re.sub('[-.]', '_', name.lower())}" for name in names}
    targets = evaluate((root / "BUILD").read_text())
    owners = {path: f":{target['name']}" for target in targets for path in target["srcs"]}
    tested = {path for target in targets if target["rule"] == "py_test" for path in target["srcs"]}

    for path in texts:
        if path not in owners:
            yield f"{path}: in no target's srcs in BUILD; add one"
        elif path.startswith("tests/test_") and path not in tested:
            yield f"{path}: in no py_test of BUILD; add one, or it is never run"
    for target in targets:
        label, deps = f":{target['name']}", set(target["deps"])
        needed = {":tests/conftest": "pytest imports it"} if target["rule"] == "py_test" else {}
        for path in target["srcs"]:
            for module in imports(path, texts):
                for need in needs(module, texts, owners):
                    needed.setdefault(need, f"{path} imports {module}")
        needed.pop(label, None)
        for need in sorted(needed.keys() - deps):
            yield f"{label}: {needed[need]}; add {need!r} to its deps"
        for dep in sorted(deps - needed.keys()):
            yield f"{label}: {', '.join(target['srcs'])}: no import of {dep!r}; remove it from deps"
        for dep in sorted(dep for dep in deps - required if dep.startswith("@")):
            yield f"{label}: no line in requirements.txt for {dep!r}; add one"


def evaluate(build):
    """The Python targets that the text of a BUILD file declares: its arguments and its rule."""
    targets = []

    def declare(rule):
        return lambda **target: targets.append({"rule": rule, "srcs": [], "deps": [], **target})

    rules = starlark.Module()
    for rule in ("py_binary", "py_library", "py_test"):
        rules.add_callable(rule, declare(rule))
    loader = starlark.FileLoader({"@rules_python//python:defs.bzl": rules.freeze()}.__getitem__)
    native = starlark.Module()
    for name in ("filegroup", "package"):
        native.add_callable(name, lambda **_: None)
    native.add_callable("glob", lambda *_, **__: [])  # for data only
    starlark.eval(native, starlark.parse("BUILD", build), starlark.Globals.standard(), loader)
    return targets


def imports(path, texts):
    """Dotted names of the modules that the file imports: of ``from a import b``, a.b or a."""
    for node in ast.walk(ast.parse(texts.get(path, ""))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.split("/")[: -node.level] if node.level else []
            module = ".".join([*package, *filter(None, [node.module])])
            for name in (f"{module}.{alias.name}" for alias in node.names):
                yield name if file(name, texts) else module
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from [node.value] if "." in node.value and file(node.value, texts) else []


def file(module, texts):
    """The path of our module ``module``, or None."""
    stem = module.replace(".", "/")
    return next((path for path in (f"{stem}.py", f"{stem}/__init__.py") if path in texts), None)


def needs(module, texts, owners):
    """Labels that an import of ``module`` stands for."""
    if path := file(module, texts):
        return [owners[path]] if path in owners else []
    package = module.split(".")[0]
    if package in sys.stdlib_module_names:
        return []
    return [f"@pypi//{name}" for name in PACKAGES.get(package, package).split()]


def test_build_says_what_is_imported():
    found = list(problems(ROOT))
    assert not found, "\n".join(found)


BUILD = """load("@rules_python//python:defs.bzl", "py_library")
[py_library(name = name, srcs = ["transfer/" + name + ".py"], deps = deps) for name, deps in {
    "a": ["@pypi//numpy"],
    "b": [":a"],
}.items()]
py_library(name = "c", srcs = ["tests/test_c.py"])
"""


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("transfer/b.py", "def f():\n    from transfer import a", ""),
        ("transfer/b.py", "TABLE = {'a': 'transfer.a'}", ""),
        ("transfer/b.py", "import transfer.a, numpy", "imports numpy; add '@pypi//numpy'"),
        ("transfer/b.py", "", ":b: transfer/b.py: no import of ':a'; remove it"),
        ("transfer/c.py", "", "transfer/c.py: in no target's srcs"),
        ("tests/test_c.py", "", "tests/test_c.py: in no py_test"),
        ("requirements.txt", "numpy_not", "requirements.txt for '@pypi//numpy'; add one"),
    ],
)
def test_problems_are_found(file, text, problem, tmp_path):
    files = {
        "BUILD": BUILD,
        "requirements.txt": "NumPy>=2\n",
        "transfer/a.py": "from numpy import *",
        "transfer/b.py": "from . import a",
        file: text,
    }
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content)
    found = list(problems(tmp_path))
    assert len(found) == bool(problem)
    assert problem in "".join(found)
