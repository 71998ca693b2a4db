"""The folder of a run: it belongs to one recipe, and to one run at a time."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import socket
import warnings
import zlib

import numpy as np

from keras_deit.distribution import processes
from keras_deit.training.data_identity import check_same_data
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import PARTIAL, one_line_errors_of
from keras_deit.utils.paths import expand_home

LOCK = ".lock"


@contextlib.contextmanager
def open_workdir(workdir, recipe):
    """Makes the folder if need be, and locks it for this process, or those that train together.

    The operating system releases the lock when the process that holds it ends, however it ends.

    Args:
        workdir: path of the folder.
        recipe: the ``Recipe`` of the run.

    Yields:
        The path, a ``pathlib.Path``.

    Raises:
        UserError: the folder cannot be written, was started with a different recipe, or is in use;
            or the processes that train together do not have the same folder and recipe.
    """
    if not str(workdir):
        raise UserError("an empty workdir: expected the name of a folder")
    workdir = pathlib.Path(expand_home(workdir))
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"workdir {workdir} is a file: expected a folder, or a new name")

    with contextlib.ExitStack() as stack:
        with processes.first_process_first():
            if not processes.index():
                _lock(workdir, stack)
                _remove_partial_files(workdir)
        _check_processes(workdir, recipe)
        _check_plan(workdir, recipe)
        yield workdir


def _lock(workdir, stack):
    """Makes the folder and locks it until ``stack`` closes."""
    try:
        for folder in ("checkpoints", "tensorboard"):
            (workdir / folder).mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context((workdir / LOCK).open("a+"))
    except OSError as error:
        raise UserError(
            f"workdir {workdir}: expected a folder to write in: {error.strerror}"
        ) from error

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        raise UserError(
            f"workdir {workdir} is in use by {holder}: wait for it, or choose another workdir"
        ) from None
    except OSError:  # a file system without locks
        warnings.warn(f"{workdir} cannot be locked: start only one run in it", stacklevel=3)

    with one_line_errors_of(workdir / LOCK):
        lock.truncate(0)
        # Not into the file's buffer, which closing the file would write once more to a full disk.
        os.write(lock.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())


def _remove_partial_files(workdir):
    """Removes what processes that were killed left half-written."""
    for folder in (workdir, workdir / "checkpoints"):
        for partial in folder.glob(f"{PARTIAL}*"):
            if partial.is_file():
                partial.unlink()


def _check_processes(workdir, recipe):
    """Raises UserError, in all processes, if they differ in folder or recipe."""
    try:
        holder = (workdir / LOCK).read_bytes()
    except OSError:
        holder = b""

    fields = json.dumps(dataclasses.asdict(recipe)).encode()
    checksums = processes.gather(np.uint32([zlib.crc32(holder), zlib.crc32(fields)]))
    folders, recipes = checksums.T

    if len(set(folders)) > 1:
        raise UserError(
            f"workdir {workdir} is not the same folder in all {processes.count()} processes:"
            " expected one that all hosts can see"
        )
    if len(set(recipes)) > 1:
        raise UserError(
            f"not the same recipe in all {processes.count()} processes: expected the same command"
        )


def _check_plan(workdir, recipe):
    """Raises UserError if the folder's ``plan.json`` is of another recipe."""
    plan = _read_plan(workdir)
    if plan:
        check_same_recipe(workdir, plan["recipe"], recipe)


def check_data_of_plan(workdir, data):
    """Checks that a workdir that has a ``plan.json`` was started with the same data.

    Args:
        workdir: ``pathlib.Path``.
        data: as ``data_identity.describe`` gives it.

    Raises:
        UserError: with other data.
    """
    plan = _read_plan(workdir)
    if plan:
        check_same_data(workdir, plan["data"], data)


def _read_plan(workdir):
    """The content of ``plan.json``; None if there is none yet."""
    path = workdir / "plan.json"
    if not path.exists():
        return None

    try:
        plan = json.loads(path.read_text())
        return {name: dict(plan[name]) for name in ("recipe", "data")}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} was not written by keras_deit: choose another workdir") from error


def check_same_recipe(workdir, before, recipe):
    """Checks that a run resumes with the recipe it was started with.

    Args:
        workdir: the run's folder.
        before: the fields of the recipe as JSON gave them back.
        recipe: the ``Recipe`` now.

    Raises:
        UserError: they differ; names the fields with both values.
    """
    now = json.loads(json.dumps(dataclasses.asdict(recipe)))

    # A note that is reworded leaves the run what it is.
    before = {**before, "note": now["note"]}
    if before == now:
        return

    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    changes = ", ".join(f"{name} {before.get(name)!r} -> {now.get(name)!r}" for name in names)
    raise UserError(
        f"workdir {workdir} was started with a different recipe ({changes}): choose another workdir"
    )
