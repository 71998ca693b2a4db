"""BUILD holds a target for each package, command and package of tests, with what it imports.

``python -m tests.test_build --fix`` writes it from the tree; the test compares. A target depends on
the targets and the packages that its files import, inside functions too. A string that is the
dotted name of one of our modules counts as an import of it. ``import a.b`` is an import of a/b.py
or a/b/__init__.py; that Python runs a/__init__.py as well does not count.
"""

import ast
import graphlib
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).absolute().parents[1]
FOLDERS = ("keras_deit", "transfer", "scripts", "tests")
FIX = "python -m tests.test_build --fix"
# The requirements of an import, if they are not the one package of the same name.
PACKAGES = {
    "PIL": "pillow",
    "absl": "absl_py",
    "cv2": "opencv_python_headless",
    "keras": "keras tensorflow",  # Keras does not require its backend.
    "sklearn": "scikit_learn",
    # TFDS imports the others, but does not require them, or not on every platform.
    "tensorflow_datasets": "array_record importlib_resources tensorflow tensorflow_datasets",
    # Not requirements of the project: for goldens and comparisons, and torch to read a .pth.
    "timm": "",
    "keras_hub": "",
    "torch": "",
    "transformers": "",
    "torchvision": "",
}
HEAD = f'''"""A target for each package, command and package of tests: {FIX} writes it."""

load("@rules_python//python:defs.bzl", "py_binary", "py_library", "py_test")

package(default_visibility = ["//visibility:public"])

# The sources as data, for tests that read them or start commands.
filegroup(
    name = "tree",
    testonly = True,
    srcs = glob(
        [
            "*.bazel",
            "*.md",
            "*.toml",
            "*.txt",
            "BUILD",
            "LICENSE",
            "keras_deit/**",
            "scripts/**",
            "tests/**",
            "transfer/**",
        ],
        exclude = ["**/__pycache__/**"],
    ),
)
'''


def problems(root):
    """What is wrong with ``root``/BUILD and requirements.txt, and what to do: a line each."""
    texts = python_files(root)
    yield from unrequired(root, texts)

    try:
        text = generate(texts)
    except graphlib.CycleError as error:
        yield f"imports in a circle: {' <- '.join(error.args[1])}; remove one of them"
        return
    if not (root / "BUILD").exists() or (root / "BUILD").read_text() != text:
        yield f"BUILD is out of date: run {FIX}"


def python_files(root):
    """Text of every Python file, by its path from ``root``."""
    paths = (path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py")))
    return {path.relative_to(root).as_posix(): path.read_text() for path in paths}


def unrequired(root, texts):
    """Imports of packages that requirements.txt does not list."""
    names = re.findall(r"^[\w.-]+", (root / "requirements.txt").read_text(), re.MULTILINE)
    required = {re.sub("[-.]", "_", name.lower()) for name in names}
    for path in texts:
        for module in imports(path, texts):
            for package in packages(module, texts):
                if package not in required:
                    yield f"{path} imports {module}: add {package!r} to requirements.txt"


def generate(texts):
    """The text of BUILD: the packages of the library, each after its dependencies, then the rest.

    Raises:
        graphlib.CycleError: targets depend on each other.
    """
    files, labels = {}, {}
    for path in texts:
        name = target(path, texts)
        files.setdefault(name, []).append(path)
        labels.setdefault(name, {":tests", "@pypi//pytest"} if name.startswith("test_") else set())
        for module in imports(path, texts):
            if imported := file(module, texts):
                labels[name].add(f":{target(imported, texts)}")
            labels[name].update(f"@pypi//{package}" for package in packages(module, texts))
        labels[name].discard(f":{name}")

    own = {name: [label[1:] for label in sorted(labels[name]) if label[0] == ":"] for name in files}
    order = sorted(graphlib.TopologicalSorter(own).static_order(), key=place)
    return HEAD + "".join(rule(name, files[name], sorted(labels[name]), texts) for name in order)


def target(path, texts):
    """Name of the target that owns a file."""
    folder, *inner, name = path.removesuffix(".py").split("/")
    if "__main__" in texts[path] and [folder, *inner] in (["scripts"], ["tests", "programs"]):
        return path.removesuffix(".py")
    if inner and (folder == "keras_deit" or inner == ["programs"]):
        return f"{folder}/{inner[0]}"
    if folder == "tests" and (inner or name.startswith("test_")):
        return f"test_{inner[0]}" if inner else name
    return folder


def place(name):
    """What targets are sorted by: the folder, then the name, except in the library."""
    folder = "tests" if name.startswith("test_") else name.split("/")[0]
    return FOLDERS.index(folder), "" if folder == FOLDERS[0] else name


def rule(name, files, deps, texts):
    """The rule of one target, as text."""
    folder = pathlib.PurePath(files[0]).parent.as_posix()
    fields = {"name": f'"{name}"'}
    if name.split("/")[0] == "tests":
        fields["testonly"] = "True"

    if name.startswith("test_"):
        kind, where = "py_test", files[0] if folder == "tests" else folder
        tests = f'glob(["{folder}/**/*.py"])' if where == folder else f'["{where}"]'
        fields |= {"srcs": f'["tests/run.py"] + {tests}', "main": '"tests/run.py"'}
        fields["args"] = f"""["{where}", "-m", "'not slow'"]"""  # scripts/test runs the slow ones
        fields["timeout"] = '"long"'  # 15 minutes: the default, 5, is short for a busy machine
    else:
        kind = "py_binary" if f"{name}.py" in files else "py_library"
        whole_folder = name == "transfer" or name.startswith("keras_deit/")
        fields["srcs"] = f'glob(["{name}/**/*.py"])' if whole_folder else lines(files)

    if name == "tests":
        fields["data"] = '["pyproject.toml"] + glob(["tests/goldens/*"])'
    elif any('.tsv")' in texts[path] for path in files) and not name.startswith("test_"):
        fields["data"] = f'glob(["{name}/*.tsv"])'
    elif any(re.search(r"\bROOT\b", texts[path]) for path in files):
        fields["data"] = '[":tree"]'
    fields["deps"] = lines(deps)
    rows = (f"    {field} = {value},\n" for field, value in fields.items() if value != "[]")
    return f"\n{kind}(\n{''.join(rows)})\n"


def lines(values):
    """A list of texts, one a line if there are several."""
    if len(values) < 2:
        return "[" + "".join(f'"{value}"' for value in values) + "]"
    return "[\n" + "".join(f'        "{value}",\n' for value in values) + "    ]"


def imports(path, texts):
    """Dotted names of the modules that a file imports: of ``from a import b``, a.b or a."""
    for node in ast.walk(ast.parse(texts[path])):
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


def packages(module, texts):
    """Names of the packages from outside that an import of ``module`` needs."""
    root = module.split(".")[0]
    if file(module, texts) or root in sys.stdlib_module_names:
        return []
    return PACKAGES.get(root, root).split()


def test_build_is_up_to_date():
    lines = list(problems(ROOT))
    assert not lines, "\n".join(lines)


TREE = {
    "requirements.txt": "NumPy>=2\npytest\n",
    "keras_deit/utils/__init__.py": "",
    "keras_deit/utils/a.py": "import os\n\nfrom numpy import *",
    "scripts/__init__.py": "",
    "scripts/train.py": 'from transfer import b\n\nif __name__ == "__main__":\n    b.main()',
    "tests/conftest.py": "ROOT = ''",
    "tests/data/test_c.py": "from tests.conftest import ROOT",
    "transfer/b.py": "from keras_deit.utils import a",
}
RULES = """
py_library(
    name = "keras_deit/utils",
    srcs = glob(["keras_deit/utils/**/*.py"]),
    deps = ["@pypi//numpy"],
)

py_library(
    name = "transfer",
    srcs = glob(["transfer/**/*.py"]),
    deps = [":keras_deit/utils"],
)

py_library(
    name = "scripts",
    srcs = ["scripts/__init__.py"],
)

py_binary(
    name = "scripts/train",
    srcs = ["scripts/train.py"],
    deps = [":transfer"],
)

py_test(
    name = "test_data",
    srcs = ["tests/run.py"] + glob(["tests/data/**/*.py"]),
    main = "tests/run.py",
    args = ["tests/data", "-m", "'not slow'"],
    timeout = "long",
    data = [":tree"],
    deps = [
        ":tests",
        "@pypi//pytest",
    ],
)

py_library(
    name = "tests",
    testonly = True,
    srcs = ["tests/conftest.py"],
    data = ["pyproject.toml"] + glob(["tests/goldens/*"]),
)
"""


def test_a_rule_lists_files_and_dependencies():
    texts = {path: text for path, text in TREE.items() if path.endswith(".py")}
    assert generate(texts) == HEAD + RULES


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("transfer/b.py", "def f():\n    from keras_deit.utils import a", ""),
        ("transfer/b.py", "TABLE = {'a': 'keras_deit.utils.a'}", ""),
        ("transfer/b.py", "from keras_deit.utils import a\n\nimport numpy", "BUILD is out of date"),
        ("transfer/b.py", "", "BUILD is out of date"),
        ("transfer/new.py", "import keras_deit.utils", ""),
        ("transfer/new.py", "import pytest", "BUILD is out of date"),
        ("scripts/new.py", 'if __name__ == "__main__":\n    pass', "BUILD is out of date"),
        ("transfer/b.py", "from keras_deit.utils import a\nimport transfer.c", "'transfer'"),
        ("keras_deit/utils/a.py", "import numpy, transfer.b", "imports in a circle: keras_deit/"),
        ("requirements.txt", "numpy_not\npytest", "utils/a.py imports numpy: add 'numpy' to req"),
    ],
)
def test_problems_are_noticed(file, text, problem, tmp_path):
    for path, content in {**TREE, "BUILD": HEAD + RULES, file: text}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    lines = list(problems(tmp_path))
    assert any(problem in line for line in lines) == bool(problem), lines
    assert problem or not lines


if __name__ == "__main__":
    if sys.argv[1:] != ["--fix"]:
        sys.exit(f"error: expected {FIX}")
    (ROOT / "BUILD").write_text(generate(python_files(ROOT)))
