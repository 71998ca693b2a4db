"""Images in a folder for each class, as torchvision's ImageFolder and the official repository have
them."""

import hashlib
import pathlib

from keras_deit.utils.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
HELD_OUT = 0.2  # of each class, where there is no part to validate on
PARTS = {"train": ("train",), "validation": ("validation", "val")}


class Folder:
    """One part: ``folder[i]`` is an encoded image and its label, classes in the order of their
    names.

    The images lie in ``<root>/<part>/<class>/``. Where there is no part to validate on, "train" and
    "validation" are made of what there is, ``<root>/train/<class>/`` or ``<root>/<class>/``: of
    each class a fifth, chosen by the images' names alone, is held out.

    Raises:
        UserError: no such folder, a class without images or with too few to hold some out.
    """

    def __init__(self, root, part):
        root = pathlib.Path(root)
        here = self.here = _place(root, part)
        self.class_names = tuple(path.name for path in _folders(here))
        groups = [_images(here / name) for name in self.class_names]
        if not any(groups):
            raise UserError(f"no images in {here}: expected a folder of them for each class")
        empty = [name for name, files in zip(self.class_names, groups, strict=True) if not files]
        if empty:
            names = ", ".join(empty)
            raise UserError(f"{here} has no images of {names}: add some, or remove the folder")
        if part in PARTS and _part(root, "validation") is None:
            groups = [_held_out(files, part == "validation") for files in groups]
        self.files = [(file, label) for label, files in enumerate(groups) for file in files]

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        path, label = self.files[index]
        return path.read_bytes(), label

    def where(self, index):
        return self.files[index][0]


def _place(root, part):
    """The folder that holds the class folders of a part."""
    found = _part(root, part)
    if found is None and part in PARTS and _part(root, "validation") is None:
        found = _part(root, "train")
        if found is None and root.is_dir() and _folders(root):
            found = root
    if found is None:
        missing = root / " or ".join(PARTS.get(part, (part,))) if root.is_dir() else root
        raise UserError(
            f"no folder {missing}: expected {root}/train and {root}/val, with a folder of images"
            f" for each class in both; or {root}/<class>/, of which some are held out to validate"
        )
    return found


def _part(root, part):
    """The folder of a part, which is one of class folders and not of images; None without it."""
    for name in PARTS.get(part, (part,)):
        if name.isidentifier() and (root / name).is_dir() and not _loose(root / name):
            return root / name
    return None


def _loose(folder):
    return not _folders(folder) and any(map(_is_image, folder.iterdir()))


def _folders(folder):
    found = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(found, key=lambda path: path.name)


def _images(folder):
    return sorted(filter(_is_image, folder.rglob("*")))


def _is_image(path):
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _held_out(files, validation):
    """The files of a class that are held out to validate, or the others."""
    if len(files) < 2:
        raise UserError(
            f"{files[0].parent} has one image: expected two or more, one to train on and one to"
            " validate, or a part val/ beside train/"
        )
    order = sorted(
        files,
        key=lambda path: hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).digest(),
    )
    count = min(max(1, round(HELD_OUT * len(files))), len(files) - 1)
    chosen = set(order[:count])
    return [path for path in files if (path in chosen) == validation]


def images_in(paths):
    """The image files that paths name: files as they are, and of a folder all that lie in it.

    Raises:
        UserError: nothing is there.
    """
    found = []
    for path in map(pathlib.Path, paths):
        if not path.exists():
            raise UserError(f"no file or folder {path}: expected images")
        found += _images(path) if path.is_dir() else [path]
    if not found:
        raise UserError("no images: expected files, or folders with some in them")
    return found
