"""What `pip install .` installs: the packages in the wheel, and the requirements."""

import tomllib

from setuptools import find_packages

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_wheel_holds_every_package():
    settings = PROJECT["tool"]["setuptools"]["packages"]["find"]
    packages = find_packages(ROOT, include=settings["include"])
    modules = [path for top in ("keras_deit", "transfer") for path in (ROOT / top).rglob("*.py")]
    folders = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in modules}
    assert set(packages) == folders


def test_the_requirements_have_one_bound_each():
    # requirements.txt adds what commands and tests need.
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert set(PROJECT["project"]["dependencies"]) < set(lines)
