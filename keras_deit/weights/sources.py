"""Where weights come from: local files and folders, and the official files by their names."""

import pathlib
import re

from keras_deit.configs.variants import VARIANTS
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import sha256
from keras_deit.utils.paths import expand_home

# The weights of a folder, as timm and transformers name them: the first that is there.
FOLDER_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


def local_file(source):
    """The weights file of a path: itself, or the first of ``FOLDER_FILES`` in a folder.

    Raises:
        UserError: there is no such file.
    """
    try:
        path = pathlib.Path(expand_home(source))
        if path.is_dir():
            files = [path / name for name in FOLDER_FILES]
            path = next((file for file in files if file.is_file()), files[0])
        exists = path.is_file()
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}") from error

    if not exists:
        known = ", ".join(name for name, row in VARIANTS.items() if row.published)
        raise UserError(f"no file {path}: expected a checkpoint file or one of {known}")
    return path


def identity(source):
    """One name for a model, however it is spelled: two spellings of one model are equal.

    Args:
        source: str or path, as for ``load``.

    Returns:
        The published name of a row of ``VARIANTS``, of its official file and of its download; else
        the absolute path of the file, without links.

    Raises:
        UserError: there is no such file.

    Example:
        >>> from keras_deit.weights.sources import identity
        >>> identity("deit_tiny_patch16_224")
        'deit_tiny_patch16_224'
    """
    if str(source) in VARIANTS:
        return str(source)

    path = local_file(source)
    if official := official_variant(path):
        verify_official(path, official)
        return official

    path = path.resolve()
    return next((name for name in _downloaded(path)), str(path))


def _downloaded(path):
    """The published models whose download is a file."""
    import huggingface_hub as hub

    for name, row in VARIANTS.items():
        if row.published:
            cached = hub.try_to_load_from_cache(row.published.hub, "model.safetensors")
            if isinstance(cached, str) and pathlib.Path(cached).resolve() == path:
                yield name


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
