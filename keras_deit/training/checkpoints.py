"""Checkpoints of a run: everything that training changes, in safetensors files."""

import json
import re
import warnings

import numpy as np

from keras_deit.distribution import replicas
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import atomic_write_safetensors

METRICS = "metrics"


class Checkpoints:
    """The last states of a run, a safetensors file each.

    Args:
        folder: ``pathlib.Path`` of the folder they are in.
        keep: int. How many are kept.
    """

    def __init__(self, folder, keep):
        self.folder = folder
        self.keep = keep

    def save(self, step, arrays, description):
        """Writes a checkpoint atomically, and then removes those of earlier steps but the last few.

        Args:
            step: int. Steps since the beginning of the run.
            arrays: numpy arrays by name.
            description: a value that JSON can hold.
        """
        path = self.folder / f"{step:09}.safetensors"
        atomic_write_safetensors(path, arrays, {"description": json.dumps(description)})

        # Never one of a later step, which is not older.
        earlier = [path for path in self._paths() if int(path.stem) <= step]
        for old in earlier[: -self.keep]:
            old.unlink()

    def latest(self):
        """The newest checkpoint that can be read: (path, arrays, description), or None. A file that
        cannot be read is renamed."""
        from safetensors import SafetensorError, safe_open

        for path in reversed(self._paths()):
            try:
                with safe_open(path, "numpy") as file:
                    arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                    return path, arrays, json.loads(file.metadata()["description"])
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                renamed = path.rename(path.with_suffix(".corrupt"))
                warnings.warn(f"{path} is corrupt and now {renamed.name}: {error}", stacklevel=2)
        return None

    def _paths(self):
        if not self.folder.is_dir():
            return []
        paths = self.folder.glob("*.safetensors")
        return sorted(path for path in paths if re.fullmatch(r"\d{9,}", path.stem))


def model_state(model):
    """Every array that training changes, by name: weights and random states, the optimizer with its
    moving average, and the metrics of the epoch so far, as each replica counted them.

    All processes must call it.
    """
    return {
        name: replicas.metric_values(variable) if name.startswith(METRICS) else np.array(variable)
        for name, variable in _variables(model)
    }


def restore(model, arrays, path):
    """Assigns what ``model_state`` gave.

    Args:
        model: a compiled model.
        arrays: numpy arrays by name.
        path: the file they come from, for errors.

    Raises:
        UserError: they are of another model.
    """
    variables = dict(_variables(model))

    expected = {name: tuple(variable.shape) for name, variable in variables.items()}
    # Metrics have an axis of replicas in front.
    shapes = {name: array.shape[name.startswith(METRICS) :] for name, array in arrays.items()}
    if shapes != expected:
        raise UserError(f"{path} is a checkpoint of another model: choose another workdir")

    for name, variable in variables.items():
        if name.startswith(METRICS):
            replicas.set_metric_values(variable, arrays[name])
        else:
            variable.assign(arrays[name])


def _variables(model):
    groups = {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        METRICS: model.metrics_variables,
    }
    for group, variables in groups.items():
        for number, variable in enumerate(variables):
            yield f"{group}/{number:04}", variable
