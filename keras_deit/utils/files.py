"""Atomic writes: a temporary file beside the target, then a rename. Locks. SHA-256 of a file."""

import contextlib
import errno
import hashlib
import io
import json
import os
import pathlib
import shutil

from keras_deit.utils.errors import UserError, reason
from keras_deit.utils.names import printable
from keras_deit.utils.paths import expand_home

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, over the quota, over the file limit
PARTIAL = ".partial-"  # what temporary files begin with; a killed process leaves them


def atomic_write(path, writer):
    """Writes a file atomically: completely, or not at all.

    Args:
        path: the file; its folders are made.
        writer: called with a temporary path of the same suffix, which it writes.

    Returns:
        What ``writer`` returns.

    Raises:
        UserError: ``path`` cannot be written.
    """
    path = pathlib.Path(expand_home(path))
    if path.name.startswith(PARTIAL):  # within another atomic write, which names its own file
        return writer(path)

    partial = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
    with one_line_errors_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            mode = _mode_of_new_file(partial)
            result = writer(partial)
            with open(partial, "rb") as written:
                os.fsync(written.fileno())
            os.chmod(partial, mode)  # some libraries keep a file to its owner
            os.replace(partial, path)
            return result
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def one_line_errors_of(path):
    """Within it, an error of a file or of the disk is raised as a UserError that names ``path``."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # Libraries in other languages raise other types, with the system's text in them.
        numbers = [
            n for n in FULL if n == getattr(error, "errno", None) or os.strerror(n) in str(error)
        ]
        if numbers:
            problem = f"{os.strerror(numbers[0])}: make room, or choose another folder"
        elif isinstance(error, OSError):
            problem = error.strerror or reason(error)
        else:
            raise
        raise UserError(f"cannot write {path}: {problem}") from error


def _mode_of_new_file(path):
    """Makes an empty file, and gives the permissions that the process' umask left it."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return os.fstat(descriptor).st_mode & 0o777
    finally:
        os.close(descriptor)


def atomic_write_text(path, text):
    """``atomic_write`` of a str, in UTF-8, as ``printable`` gives it."""
    text = printable(text)
    atomic_write(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def atomic_write_json(path, value):
    """``atomic_write`` of a value as indented JSON."""
    atomic_write_text(path, json.dumps(value, indent=2) + "\n")


def atomic_write_safetensors(path, tensors, metadata):
    """``atomic_write`` of numpy arrays by name, and of metadata, a dict of str."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    def write(partial):
        try:
            save_file(tensors, partial, metadata)
        except SafetensorError as error:  # of the disk: the arrays are numpy's
            raise OSError(error) from error

    atomic_write(path, write)


class _NamedMemory(io.BytesIO):
    """A file in memory that Keras takes for a ``.weights.h5``."""

    def __str__(self):
        return "memory.weights.h5"


def atomic_write_hdf5(path, save_weights):
    """``atomic_write`` of a ``.weights.h5`` file.

    It is made in memory first: HDF5 may end the process when it writes to a full disk.

    Args:
        path: the file.
        save_weights: a Keras model's method.
    """
    content = _NamedMemory()
    save_weights(content)
    atomic_write(path, lambda partial: partial.write_bytes(content.getbuffer()))


def atomic_write_folder(path, writer):
    """``atomic_write`` of a folder, which replaces one that is there."""
    path = pathlib.Path(expand_home(path))
    partial = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
    old = path.with_name(f".old-{os.getpid()}-{path.name}")
    with one_line_errors_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)  # of a killed process of the same id
        partial.mkdir()
        try:
            result = writer(partial)
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)  # likewise
                path.rename(old)
            partial.rename(path)
            return result
        finally:
            for leftover in (partial, old):
                shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def locked(path):
    """Within it, no other process is in a ``locked`` of the same path: it waits.

    The operating system releases the lock when the process that holds it ends, however it ends.

    Args:
        path: a file only for the lock, which stays; its folders are made.

    Raises:
        UserError: ``path`` cannot be written.
    """
    from filelock import FileLock

    path = pathlib.Path(expand_home(path))
    lock = FileLock(path)
    with one_line_errors_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()

    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def try_locked(path):
    """``locked`` that does not wait: yields whether no other process is in one of the same path."""
    from filelock import FileLock, Timeout

    path = pathlib.Path(expand_home(path))
    lock = FileLock(path)
    with one_line_errors_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)

    try:
        yield lock.is_locked
    finally:
        lock.release()


def sha256(path):
    """The SHA-256 of a file's content, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
