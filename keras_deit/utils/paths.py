"""Paths as users write them."""

import os
import pathlib

FOLDER = "folder:"  # how the name of a dataset begins that is a folder of images


def expand_home(path):
    """A path with the home folder in place of a ``~`` or ``~user`` that it begins with.

    Args:
        path: str, path, a list or tuple of them, or anything else, such as None. A str may also be
            ``folder:<path>``, the name of a dataset.

    Returns:
        The same, of the same type.

    Example:
        >>> import os
        >>> from keras_deit.utils.paths import expand_home
        >>> expand_home("folder:~/birds") == "folder:" + os.path.expanduser("~/birds")
        True
        >>> expand_home("deit_tiny_patch16_224"), expand_home(None)
        ('deit_tiny_patch16_224', None)
    """
    if isinstance(path, (list, tuple)):
        return type(path)(map(expand_home, path))
    if isinstance(path, pathlib.Path):
        return pathlib.Path(os.path.expanduser(path))
    if not isinstance(path, str):
        return path

    prefix = FOLDER if path.startswith(FOLDER) else ""
    return prefix + os.path.expanduser(path.removeprefix(prefix))
