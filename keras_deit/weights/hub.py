"""Downloads of published weights: cached, resumed and verified."""

import pathlib
import re

from keras_deit.configs.variants import FILES, VARIANTS
from keras_deit.utils.errors import UserError, reason
from keras_deit.utils.files import sha256
from keras_deit.utils.network import check_reachable
from keras_deit.utils.paths import expand_home

WEIGHTS = "model.safetensors"


def download(name, cache_dir=None):
    """Downloads the published ``model.safetensors`` of a row of ``VARIANTS`` from the Hugging Face
    hub, unless the cache has it. An interrupted download resumes.

    Args:
        name: str. A row with published weights.
        cache_dir: str or path of a folder; None is the hub library's own.

    Returns:
        The file's path in the cache.

    Raises:
        UserError: the hub cannot be reached, or the file does not have the hub's SHA-256.
    """
    import huggingface_hub as hub

    published = VARIANTS[name].published
    cache_dir = expand_home(cache_dir)
    # Its answer for a file that is not there is None, or an object that says so.
    path = hub.try_to_load_from_cache(published.hub, WEIGHTS, cache_dir=cache_dir)
    try:
        if not isinstance(path, str):
            if not hub.constants.HF_HUB_OFFLINE:
                check_reachable(hub.constants.ENDPOINT)  # the library retries for half a minute
            path = hub.hf_hub_download(published.hub, WEIGHTS, cache_dir=cache_dir)
    except Exception as error:  # of the hub, of its HTTP library, of the disk
        raise UserError(
            f"cannot get {published.hub} from the hub ({reason(error)}): try again, or download"
            f" {FILES}/{published.file} and give its path"
        ) from error
    _verify(pathlib.Path(path).resolve())
    return pathlib.Path(path)


def _verify(path):
    # The cache names a file by its hash; a file on a hub without large-file storage has another.
    expected = path.name
    if not re.fullmatch("[0-9a-f]{64}", expected):
        return

    actual = sha256(path)
    if actual != expected:
        raise UserError(f"{path} is corrupt, its SHA-256 is {actual}: delete it and try again")
