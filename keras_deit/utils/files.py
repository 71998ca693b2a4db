"""Files that are whole or not there: written beside their place, then moved into it."""

import json
import os
import pathlib
import shutil

from keras_deit.utils.errors import UserError

UMASK = os.umask(0)
os.umask(UMASK)


def write(path, writer):
    """Calls ``writer`` with a path of the same suffix beside ``path``, then renames that to it.
    Folders on the way are made. Raises UserError where ``path`` cannot be written."""
    path = pathlib.Path(path)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            writer(partial)
            with open(partial, "rb") as written:
                os.fsync(written.fileno())
            os.chmod(partial, 0o666 & ~UMASK)  # some libraries keep a file to its owner
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def write_json(path, value):
    """``value`` as indented JSON."""
    write(path, lambda partial: partial.write_text(json.dumps(value, indent=2) + "\n"))


def bare(model):
    """A copy that is the function alone, in float32 and without the optimizer's state: what files
    hold."""
    config = {name: value for name, value in model.get_config().items() if name != "dtype"}
    copy = type(model).from_config(config)
    copy.set_weights(model.get_weights())
    return copy


def write_folder(path, writer):
    """As ``write``, for a folder, which replaces one that is there."""
    path = pathlib.Path(path)
    partial, old = (
        path.with_name(f".{word}-{os.getpid()}-{path.name}") for word in ("partial", "old")
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        try:
            writer(partial)
            if path.exists():
                path.rename(old)
            partial.rename(path)
        finally:
            for left in (partial, old):
                shutil.rmtree(left, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
