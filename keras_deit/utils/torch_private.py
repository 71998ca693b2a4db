"""Private behavior of Keras on PyTorch that this project relies on; see ``keras_private.py``."""

import torch
from keras.src.backend.torch.layer import TorchLayer

from keras_deit.utils.keras_private import PrivateName

_LAYER = "keras.src.backend.torch.layer.TorchLayer"

NAMES = (
    PrivateName(
        _LAYER,
        "_track_variables",
        (),
        "keras/src/backend/torch/layer.py:21",
        "allow_dots_in_names: the names by which PyTorch knows a layer's variables",
    ),
)


class _Parameters(torch.nn.ParameterDict):
    """Parameters by the paths of their variables, which PyTorch knows without dots."""

    def _key_to_attr(self, key):
        return super()._key_to_attr(key).replace(".", ":")


def allow_dots_in_names():
    """Lets the path of a variable have dots, as in ``de_i_t/blocks.0/mlp/fc1/kernel``.

    Layers are named as in timm on every backend. Keras registers each variable of a layer with
    PyTorch by its path, and PyTorch refuses a dot in a parameter's name. Every Keras layer around
    or inside one of ours is affected, so Keras' own class is changed. Variables whose paths have no
    dot are registered as before.
    """

    def track_variables(self):
        paths = {variable.path: variable.value for variable in self.variables}
        self._torch_params = _Parameters(paths)

    TorchLayer._track_variables = track_variables
