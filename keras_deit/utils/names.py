"""Names of files and classes that are not valid Unicode."""


def printable(name):
    """A name as valid Unicode, which can be printed and stored.

    In a file's name, Python puts a lone surrogate for each byte that is not UTF-8.

    Args:
        name: str or path.

    Returns:
        A str, with an escape sequence for each surrogate.

    Example:
        >>> import keras_deit as kd
        >>> import os
        >>> from keras_deit.utils.names import printable
        >>> print(printable(os.fsdecode(b"caf\\xe9.jpg")))
        caf\\udce9.jpg
    """
    return str(name).encode("utf-8", "backslashreplace").decode()
