"""The folder of a run: one recipe, one process at a time, checkpoints that are whole."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import re
import socket
import warnings
import zlib

import numpy as np

from keras_deit.distribution import processes, replicas
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import atomic_write

LOCK, METRICS = ".lock", "metrics"


@contextlib.contextmanager
def opened(workdir, recipe):
    """The folder, made where it is not there, for this recipe and this process, or those that
    train together, alone.

    The system ends the lock with the process that holds it, however that ends.

    Raises:
        UserError: it cannot be written, belongs to another recipe, a process works in it, or the
            processes that train together have not the same folder and recipe.
    """
    if not str(workdir):
        raise UserError("an empty workdir: expected the name of a folder")
    workdir = pathlib.Path(workdir)
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"workdir {workdir} is a file: expected a folder, which is made if need be")
    with contextlib.ExitStack() as stack:
        with processes.first_alone():
            if not processes.index():
                _take(workdir, stack)
        _shared(workdir, recipe)
        _agree(workdir, recipe)
        yield workdir


def _take(workdir, stack):
    """Makes the folder, locks it as long as ``stack`` lasts, and clears it of what is half
    written."""
    try:
        for folder in ("checkpoints", "tensorboard"):
            (workdir / folder).mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context((workdir / LOCK).open("a+"))
    except OSError as error:
        raise UserError(f"workdir {workdir}: expected a folder to write in: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        raise UserError(
            f"workdir {workdir} is in use by {holder}: wait for it, or use another"
        ) from None
    except OSError:  # a file system without locks
        warnings.warn(f"{workdir} cannot be locked: start one run in it only", stacklevel=3)
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}")
    lock.flush()
    for folder in (workdir, workdir / "checkpoints"):
        for partial in folder.glob(".partial-*"):  # of a process that was killed
            if partial.is_file():
                partial.unlink()


def _shared(workdir, recipe):
    """Raises UserError, in all processes, where they differ in folder or recipe."""
    try:
        holder = (workdir / LOCK).read_bytes()
    except OSError:
        holder = b""
    fields = json.dumps(dataclasses.asdict(recipe)).encode()
    folders, recipes = processes.each(np.uint32([zlib.crc32(holder), zlib.crc32(fields)])).T
    if len(set(folders)) > 1:
        raise UserError(
            f"workdir {workdir} is not the same folder in all {processes.count()} processes:"
            " expected one that all hosts share"
        )
    if len(set(recipes)) > 1:
        raise UserError(
            f"not the same recipe in all {processes.count()} processes: expected the same command"
        )


def _agree(workdir, recipe):
    plan = workdir / "plan.json"
    try:
        before = dict(json.loads(plan.read_text())["recipe"]) if plan.exists() else None
    except OSError as error:
        raise UserError(f"cannot read {plan}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{plan} is not a plan of ours: use another workdir") from error
    if before is not None:
        same_recipe(workdir, before, recipe)


def same_recipe(workdir, before, recipe):
    """Raises UserError where ``before``, a recipe's fields as JSON gave them back, is another."""
    now = json.loads(json.dumps(dataclasses.asdict(recipe)))
    if before != now:
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        changes = ", ".join(f"{name} {before.get(name)!r} -> {now.get(name)!r}" for name in names)
        raise UserError(f"workdir {workdir} belongs to another recipe ({changes}): use another")


class Checkpoints:
    """The last ``keep`` states of a run, in ``folder``, each a safetensors file of arrays by name
    and a description that JSON can hold."""

    def __init__(self, folder, keep):
        self.folder, self.keep = folder, keep

    def save(self, step, arrays, description):
        """Writes a state, whole or not at all, and then removes those older than the last few."""
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        def writer(partial):
            try:
                save_file(arrays, partial, {"description": json.dumps(description)})
            except SafetensorError as error:  # as it calls a full disk
                raise OSError(error) from error

        atomic_write(self.folder / f"{step:09}.safetensors", writer)
        for old in self._paths()[: -self.keep]:
            old.unlink()

    def latest(self):
        """(path, arrays, description) of the newest state that can be read, None without one. What
        cannot be read is set aside under another name."""
        from safetensors import SafetensorError, safe_open

        for path in reversed(self._paths()):
            try:
                with safe_open(path, "numpy") as file:
                    arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                    return path, arrays, json.loads(file.metadata()["description"])
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                aside = path.rename(path.with_suffix(".damaged"))
                warnings.warn(f"{path} is damaged and now {aside.name}: {error}", stacklevel=2)
        return None

    def _paths(self):
        found = self.folder.glob("*.safetensors") if self.folder.is_dir() else ()
        return sorted(path for path in found if re.fullmatch(r"\d{9,}", path.stem))


def state(model):
    """Every array that training changes, by name: weights and random states, the optimizer with
    its moving average, the metrics of the epoch so far, those as each replica counted them. All
    processes must call it."""
    return {
        name: replicas.counted(variable) if name.startswith(METRICS) else np.array(variable)
        for name, variable in _variables(model)
    }


def restore(model, arrays, path):
    """Assigns what ``state`` gave. Raises UserError where that was of another model."""
    variables = dict(_variables(model))
    if {name: tuple(v.shape) for name, v in variables.items()} != {
        name: array.shape[name.startswith(METRICS) :] for name, array in arrays.items()
    }:
        raise UserError(f"{path} is a checkpoint of another model: use another workdir")
    for name, variable in variables.items():
        if name.startswith(METRICS):
            replicas.set_counted(variable, arrays[name])
        else:
            variable.assign(arrays[name])


def _variables(model):
    kinds = {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        METRICS: model.metrics_variables,
    }
    for kind, variables in kinds.items():
        yield from ((f"{kind}/{number:04}", variable) for number, variable in enumerate(variables))
