"""PyTorch files: only their parameters. Pickled code in them is never executed."""

import shlex
import zipfile

from keras_deit.utils.errors import UserError

# How PyTorch's errors name the type of the command line in a checkpoint of the official script.
NAMESPACE = "argparse.Namespace"


def read(path):
    """The parameters of a PyTorch file, by its own names: a dict of functions that read arrays.

    A state dict may be by itself or under "model" or "state_dict".

    Raises:
        UserError: PyTorch is not installed, or the file is corrupt, holds pickled code, or no
            parameters.
    """
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
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise UserError(refusal(path, str(error))) from error
    except Exception as error:  # of many types, on a corrupt file
        raise UserError(f"{path} is a corrupt or truncated PyTorch file") from error

    # The official files are {"model": ...}, timm's {"state_dict": ...} or the parameters.
    for key in ("model", "state_dict"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise UserError(
            f"{path} holds no parameters by name: expected them under 'model' or 'state_dict', or"
            " by themselves"
        )
    return {name: _reader(tensor.detach()) for name, tensor in state.items()}


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
