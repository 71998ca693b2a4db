"""PyTorch files: only their parameters. Pickled code in them is never executed."""

import shlex
import zipfile

from keras_deit.utils import logs
from keras_deit.utils.errors import UserError

# How PyTorch's errors name the type of the command line in a checkpoint of the official script.
NAMESPACE = "argparse.Namespace"

# Where checkpoints keep the parameters, the first that is there: the official script's, timm's,
# and the moving average of either.
KEYS = ("model", "state_dict", "model_ema", "state_dict_ema")

COUNTER = "n_averaged"  # the number of updates of PyTorch's AveragedModel, no parameter


def read(path):
    """The parameters of a PyTorch file, by its own names: a dict of functions that read arrays.

    A state dict may be by itself or under one of ``KEYS``; what is under the others is not read,
    and printed.

    Raises:
        UserError: PyTorch is not installed, or the file is corrupt, holds pickled code, or no
            parameters.
    """
    return {name: _reader(tensor.detach()) for name, tensor in _state_dict(path).items()}


def shapes(path):
    """The shapes of the parameters, tuples by its own names; none if PyTorch is not installed."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return {}
    with logs.quiet():
        return {name: tuple(tensor.shape) for name, tensor in _state_dict(path).items()}


def _state_dict(path):
    """The tensors of a file, which stay on the disk until they are read, by name."""
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path} is a PyTorch file, and PyTorch is not installed: pip install torch,"
            " or load the same weights as safetensors"
        ) from error
    import pickle

    try:
        mapped = zipfile.is_zipfile(path)  # PyTorch's older format cannot be memory-mapped
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise UserError(refusal(path, str(error))) from error
    except Exception as error:  # of many types, on a corrupt file
        raise UserError(f"{path} is a corrupt or truncated PyTorch file") from error

    tensors = select(path, content, torch.Tensor)
    for name, tensor in tensors.items():
        # A tensor of any size may be made of one number, by strides of 0, or of none.
        is_dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
        size = tensor.numel() * tensor.element_size()
        if not is_dense or size > tensor.untyped_storage().nbytes():
            raise UserError(f"{path}: {name!r:.80} is no plain tensor: expected arrays of numbers")
    return tensors


def select(path, content, tensor_type):
    """The parameters in what a checkpoint holds.

    Args:
        path: what errors call the file.
        content: what PyTorch read.
        tensor_type: the class of a parameter.

    Returns:
        A dict of tensors by name.

    Raises:
        UserError: there are none.
    """
    state = content
    if isinstance(content, dict) and (found := [key for key in KEYS if key in content]):
        state = content[found[0]]
        if found[1:]:
            logs.info(f"{path}: read {found[0]!r}, and not {', '.join(map(repr, found[1:]))}")

    # An average may be in a wrapper's state: {"module": {...}}.
    if isinstance(state, dict) and set(state) <= {"module", COUNTER}:
        state = state.get("module", state)
    if isinstance(state, dict):
        state = {name: value for name, value in state.items() if name != COUNTER}

    is_state = isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, tensor_type) for name, value in state.items()
    )
    if is_state and state:
        return state

    keys = [key for key in content if isinstance(key, str)] if isinstance(content, dict) else []
    has = f"; it has {', '.join(f'{key!r:.40}' for key in keys[:8])}" if keys else ""
    raise UserError(
        f"{path} holds no parameters by name: expected them under one of {', '.join(KEYS)}, or by"
        f" themselves{has}"
    )


def refusal(path, message):
    """The error for a file that PyTorch did not unpickle.

    Args:
        path: the file.
        message: str. The text of PyTorch's ``UnpicklingError``; nothing else says what it refused.

    Returns:
        One line, a str: for a checkpoint of the official training script, how to extract the
        weights.
    """
    if NAMESPACE in message:
        program = (
            "import argparse, torch; torch.serialization.add_safe_globals([argparse.Namespace]);"
            f" state = torch.load({str(path)!r}, weights_only=True);"
            ' torch.save(state.get("model", state.get("state_dict")), "weights.pth")'
        )
        return (
            f"{path} is a training checkpoint, which holds its command line (an argparse.Namespace)"
            f" beside the weights: extract the weights, python -c {shlex.quote(program)}"
        )
    return f"{path} was not opened: it is corrupt, or contains pickled code, which is never run"


def _reader(tensor):
    # numpy has no bfloat16. Integers stay what they are, to be refused by name.
    return lambda: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
