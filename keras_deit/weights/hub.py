"""Downloads of published weights, cached, resumed and verified."""

import pathlib
import re

from keras_deit.configs.variants import FILES, VARIANTS
from keras_deit.utils.errors import UserError, reason
from keras_deit.utils.files import sha256


def download(name, cache_dir=None):
    """The published ``model.safetensors`` of a row of ``VARIANTS`` from the Hugging Face hub, as a
    path in its cache. What the cache holds already is not downloaded again, and when the connection
    breaks off, the download goes on where it was.

    Args:
        name: a row with published weights.
        cache_dir: a folder; None is the hub library's own.

    Raises:
        UserError: the hub cannot be reached, or the file is not what the hub's hash says.
    """
    import huggingface_hub as hub

    published = VARIANTS[name].published
    try:
        path = pathlib.Path(
            hub.hf_hub_download(published.hub, "model.safetensors", cache_dir=cache_dir)
        )
    except Exception as error:  # of the hub, of its HTTP library, of the disk
        raise UserError(
            f"cannot get {published.hub} from the hub ({reason(error)}): try again, or download"
            f" {FILES}/{published.file} and give its path"
        ) from error
    expected = path.resolve().name  # the cache names a file by its hash
    if re.fullmatch("[0-9a-f]{64}", expected):
        found = sha256(path)
        if found != expected:
            raise UserError(
                f"{path.resolve()} is damaged, its SHA-256 is {found}: delete it and try again"
            )
    return path
