"""The examples in docstrings run as they stand, and every public class and function has one."""

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest

import keras_deit as kd
import transfer

# What only the PyTorch backend can import; it has no examples.
ON_TORCH = ("keras_deit.distillation.torch_trainer", "keras_deit.utils.torch_private")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def find_examples():
    """Every docstring of the library and of transfer that holds examples."""
    for package in (kd, transfer):
        modules = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        names = [module.name for module in modules if module.name not in ON_TORCH]
        for name in (package.__name__, *names):
            docstrings = doctest.DocTestFinder().find(importlib.import_module(name), name)
            yield from (docstring for docstring in docstrings if docstring.examples)


def find_public():
    """The public classes and functions, those of ``kd.data`` among them."""
    for package in (kd, kd.data, transfer):
        for name in package.__all__:
            value = getattr(package, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield pytest.param(value, id=f"{package.__name__}.{name}")


EXAMPLES = list(find_examples())


@pytest.fixture
def empty_folder(data_dir, tmp_path, monkeypatch):
    """The working directory; TFDS finds the digits without a ``data_dir``."""
    from tensorflow_datasets.core import constants

    monkeypatch.setattr(constants, "DATA_DIR", str(data_dir))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs_as_it_stands(example):
    # What begins with an import needs nothing else; the rest sees its module's names.
    if example.examples[0].source.startswith(("import ", "from ")):
        example.globs = {}

    output = []
    result = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=output.append)
    assert result.failed == 0, "".join(output)


@pytest.mark.parametrize("value", list(find_public()))
def test_what_is_public_has_an_example(value):
    assert re.search(r"Example:\s+>>> (import|from) ", value.__doc__)
    assert value.__doc__ in {example.docstring for example in EXAMPLES}
