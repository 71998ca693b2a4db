"""A teacher's targets of every augmented view, kept in a folder: written once, read by any student.

A view is a pure function of the recipe's data fields, the epoch and the position, so that what a
teacher says of it need not be computed again. The folder holds ``targets.json``, which describes
the views, the teachers and the files, and for each epoch a safetensors file of arrays by (step, row
of the batch):

- ``classes``: the teacher's decision, uint16, or uint32 of more classes than that holds. For soft
  targets (step, row, k): the k classes of largest probability, the largest first.
- ``log_probabilities``: of soft targets, float16 (step, row, k).
- ``log_rest``: of soft targets, float16 (step, row): the log-probability of all other classes.
"""

import hashlib
import json
import math
import pathlib

import numpy as np

from keras_deit.utils.errors import UserError
from keras_deit.utils.files import atomic_write_json, atomic_write_safetensors

DESCRIPTION = "targets.json"
FORMAT = "keras_deit targets 1"
LEAST = -60000.0  # a logarithm of a probability that float16 holds


def encode(logits, kind, top_k):
    """What is stored of a teacher's logits.

    Args:
        logits: float32 (rows, num_classes).
        kind: "hard" or "soft".
        top_k: int. How many probabilities are kept of soft targets; all, if there are fewer.

    Returns:
        A dict of arrays, see the module.

    Raises:
        UserError: a logit is NaN, or the largest of a row is infinite.

    Example:
        >>> import numpy as np
        >>> from keras_deit.data.targets import encode
        >>> encode(np.float32([[0, 2, 1]]), "hard", top_k=2)
        {'classes': array([1], dtype=uint16)}
    """
    if not np.isfinite(logits.max(axis=-1)).all():  # a maximum is NaN if anything is
        raise UserError("the teacher gives NaN or infinity: expected logits")

    num_classes = logits.shape[-1]
    dtype = np.uint16 if num_classes <= 2**16 else np.uint32
    if kind == "hard":
        return {"classes": logits.argmax(axis=-1).astype(dtype)}

    k = min(top_k, num_classes)
    # Stable, so that of equal classes the first is the decision, as argmax has it.
    classes = np.argsort(-logits, axis=-1, kind="stable")[:, :k]

    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    kept = np.take_along_axis(log_probabilities, classes, axis=-1)
    with np.errstate(divide="ignore"):  # of no other class
        log_rest = np.log(np.maximum(0.0, 1.0 - np.exp(kept).sum(axis=-1)))

    return {
        "classes": classes.astype(dtype),
        "log_probabilities": np.maximum(kept, LEAST).astype(np.float16),
        "log_rest": np.maximum(log_rest, LEAST).astype(np.float16),
    }


def decode(arrays, num_classes):
    """Logits of stored targets, whose softmax is the teacher's and whose largest is its decision.

    Args:
        arrays: dict of arrays of some rows, as ``encode`` gives it.
        num_classes: int.

    Returns:
        float32 (rows, num_classes). Of hard targets 1 for the decision and 0 for all others. Of
        soft ones log-probabilities, the rest in equal parts among the classes that are not stored.

    Example:
        >>> import numpy as np
        >>> from keras_deit.data.targets import decode
        >>> decode({"classes": np.uint16([2, 0])}, num_classes=3).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    classes = arrays["classes"].astype(np.int64)
    rows = len(classes)
    if "log_rest" not in arrays:
        logits = np.zeros((rows, num_classes), np.float32)
        logits[np.arange(rows), classes] = 1
        return logits

    others = num_classes - classes.shape[1]
    log_rest = arrays["log_rest"].astype(np.float32)[:, None] - math.log(max(1, others))
    logits = np.broadcast_to(log_rest, (rows, num_classes)).copy()
    np.put_along_axis(logits, classes, arrays["log_probabilities"].astype(np.float32), axis=-1)

    # Rounded to float16, the decision may equal another class, or be just below the others' mean.
    logits[np.arange(rows), classes[:, 0]] = np.nextafter(logits.max(axis=-1), np.float32(np.inf))
    return logits


def read_description(folder):
    """The content of a folder's ``targets.json``; None if there is none.

    Raises:
        UserError: it is not of such a folder, or was changed.
    """
    path = pathlib.Path(folder) / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        if description["format"] != FORMAT:
            raise ValueError(description["format"])
        digest = description.pop("digest")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} was not written by kd.label: choose another folder") from error

    # Training relies on each field, and one that was edited is not seen in the arrays.
    if digest != _digest(description):
        raise UserError(
            f"{path} was changed after it was written: restore it, or delete the folder and run"
            " scripts.label again"
        )
    return description


def write_description(folder, description):
    """Writes a folder's ``targets.json``, as ``read_description`` gives it back."""
    content = {**description, "digest": _digest(description)}
    atomic_write_json(pathlib.Path(folder) / DESCRIPTION, content)


def _digest(description):
    """The SHA-256 of a dict of JSON values."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def epoch_file(folder, epoch):
    """The path of an epoch's file."""
    return pathlib.Path(folder) / f"epoch-{epoch:04}.safetensors"


def read_steps(path, description):
    """The steps of an unfinished epoch, a list of dicts of arrays.

    None if it was not begun, was changed, or is of targets with another description.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            names = file.keys()
            arrays = {name: file.get_tensor(name) for name in names}
            metadata = file.metadata() or {}
    except (OSError, SafetensorError):
        return []
    if metadata.get("digest") != _digest_of_steps(arrays, description):
        return []

    count = len(arrays["classes"])
    return [{name: array[step] for name, array in arrays.items()} for step in range(count)]


def write_steps(path, steps, description=None):
    """Writes the steps of an epoch; or of its beginning, with the description of the targets, as
    ``read_steps`` gives them back."""
    arrays = {name: np.stack([step[name] for step in steps]) for name in steps[0]}
    metadata = {"format": FORMAT}
    if description is not None:
        metadata["digest"] = _digest_of_steps(arrays, description)
    atomic_write_safetensors(path, arrays, metadata)


def _digest_of_steps(arrays, description):
    """A digest of arrays and of what they are targets of: all but the list of finished files."""
    content = {
        name: [str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()]
        for name, array in arrays.items()
    }
    return _digest({**description, "files": content})
