"""Image files below folders, and how many other files lie there."""

import collections
import contextlib
import functools
import os
import pathlib

from keras_deit.data.decode import formats
from keras_deit.utils import logs
from keras_deit.utils.errors import UserError
from keras_deit.utils.names import printable

SHOWN = 8  # kinds of ignored files that are named


@functools.cache
def suffixes():
    """The suffixes of the files that ``decode`` reads, a frozenset of str: ".jpg", ".avif" ..."""
    from PIL import Image

    readable = set(formats())
    return frozenset(
        suffix for suffix, kind in Image.registered_extensions().items() if kind in readable
    )


def below(folder):
    """The images in a folder and in its sub-folders, of which links are followed.

    No folder is entered twice, whatever links lead to it. Hidden files and folders are left out.

    Args:
        folder: ``pathlib.Path``.

    Returns:
        A sorted list of paths, and a Counter of the other files, by kind: their suffix,
        "hidden" ...

    Raises:
        OSError: a folder cannot be read.
    """
    images, ignored = [], collections.Counter()
    real = pathlib.Path(os.path.realpath(folder))
    entered = set(map(str, real.parents))  # a link to a folder above is a loop

    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        real_place = os.path.realpath(place)
        if real_place in entered:
            folders.clear()
            continue
        entered.add(real_place)

        ignored["hidden"] += sum(map(_is_hidden, folders))
        folders[:] = sorted(name for name in folders if not _is_hidden(name))

        for path in (pathlib.Path(place, name) for name in names):
            if is_image(path):
                images.append(path)
            else:
                ignored[_kind(path)] += 1

    return sorted(images), +ignored


def beside(folder):
    """The files in a folder of folders, outside all of these: a Counter by kind, like ``below``'s.

    Raises:
        OSError: the folder cannot be read.
    """
    paths = sorted(folder.iterdir())
    return collections.Counter(
        "images outside the folders" if is_image(path) else _kind(path)
        for path in paths
        if _is_hidden(path.name) or not path.is_dir()
    )


def is_image(path):
    """Whether a path is a file, not a hidden one, with the suffix of an image."""
    return path.suffix.lower() in suffixes() and not _is_hidden(path.name) and path.is_file()


def subfolders(folder):
    """The folders in a folder, sorted by name, without hidden ones."""
    paths = (path for path in folder.iterdir() if path.is_dir() and not _is_hidden(path.name))
    return sorted(paths, key=lambda path: path.name)


def _is_hidden(name):
    return name.startswith(".")


def _kind(path):
    if _is_hidden(path.name):
        return "hidden"
    if not path.is_file():
        return "broken links" if path.is_symlink() else "special files"
    return path.suffix.lower() or "without suffix"


def _raise(error):
    raise error


def report_ignored(place, ignored):
    """Prints a line with the number of ignored files by kind, if there are any, once.

    Args:
        place: str or path. Where they are.
        ignored: Counter, as ``below`` gives it.
    """
    if not ignored:
        return

    kinds = ", ".join(f"{count} {kind}" for kind, count in ignored.most_common(SHOWN))
    rest = sum(ignored.values()) - sum(count for _, count in ignored.most_common(SHOWN))
    more = f", {rest} others" if rest else ""
    info_once(f"{printable(place)}: {ignored.total()} files ignored: {kinds}{more}")


def info_once(line):
    """Prints a line that a process has not printed yet.

    The splits of a folder may have the same files, and are opened several times.
    """
    if logs.verbose():
        _info(line)


@functools.cache
def _info(line):
    logs.info(line)


@contextlib.contextmanager
def folders_are_readable():
    """A context, or decorator, in which a folder that cannot be read is a UserError."""
    try:
        yield
    except OSError as error:
        name = printable(error.filename)
        raise UserError(f"cannot read {name}: {error.strerror}") from error


@folders_are_readable()
def image_paths(paths):
    """The image files that paths name. A line says how many other files their folders hold.

    Args:
        paths: strs or paths. Files are taken as they are, and of a folder all images ``below`` it.

    Returns:
        A list of ``pathlib.Path``.

    Raises:
        UserError: a path does not exist or cannot be read, or there are no images.
    """
    images = []
    for path in map(pathlib.Path, paths):
        if not path.exists():
            raise UserError(f"no file or folder {printable(path)}: expected images")
        if not path.is_dir():
            images.append(path)
            continue

        found, ignored = below(path)
        images += found
        report_ignored(path, ignored)

    if not images:
        raise UserError("no images: expected files, or folders with some in them")
    return images
