"""Where weights come from: local files and folders, and the official files by their names."""

import pathlib
import re

from keras_deit.configs.variants import VARIANTS
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import sha256


def local_file(source):
    """The weights file of a path: itself, or ``model.safetensors`` of a folder.

    Raises:
        UserError: there is no such file.
    """
    try:
        path = pathlib.Path(source)
        if path.is_dir():
            path = path / "model.safetensors"
        exists = path.is_file()
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}") from error

    if not exists:
        known = ", ".join(name for name, row in VARIANTS.items() if row.published)
        raise UserError(f"no file {path}: expected a checkpoint file or one of {known}")
    return path


def official_variant(path):
    """The row of ``VARIANTS`` whose official file has this name, or None.

    Example:
        >>> import pathlib
        >>> from keras_deit.weights.sources import official_variant
        >>> official_variant(pathlib.Path("downloads/deit_tiny_patch16_224-a1311bcf.pth"))
        'deit_tiny_patch16_224'
    """
    match = re.fullmatch(r"(\w+)-([0-9a-f]{8})\.pth", path.name)
    row = VARIANTS.get(match[1]) if match else None
    return match[1] if row and row.published else None


def verify_official(path, variant):
    """Raises UserError if a file with an official name is not the published one."""
    expected = VARIANTS[variant].published.sha256
    try:
        actual = sha256(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error

    # The published names have the first eight digits.
    if not actual.startswith(expected):
        raise UserError(
            f"{path} is not the published file: its SHA-256 begins with {actual[: len(expected)]},"
            f" not {expected}: download it again, or rename it if it is your own file"
        )
