"""Images in a folder for each class, the layout of torchvision's ImageFolder and of the official
repository."""

import collections
import hashlib
import os
import pathlib

from keras_deit.data import image_files
from keras_deit.data.image_files import folders_are_readable, subfolders
from keras_deit.utils.errors import UserError
from keras_deit.utils.names import printable

HELD_OUT = 0.2  # fraction of each class, if there is no validation split
SHOWN = 5  # folders that a message names
ALL = "all"  # the split of all images, of a folder without splits

# The folders' names of each split, in any case.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}


class Folder:
    """One split: ``folder[i]`` is an encoded image and its label, classes in alphabetical order.

    The images lie in ``<root>/<split>/<class>/``, in files of all formats that ``decode`` reads.
    A line says how many other files there are, another which folders are no split.
    Without a validation split, "train" and "validation" are both made of ``<root>/train/<class>/``
    or ``<root>/<class>/``: a fifth of each class, chosen only by the images' names, is held out for
    validation. "all" is both.

    Args:
        root: str or path.
        split: str. "train", "validation" or "test" (a folder with one of their ``SPLITS`` names),
            "all" without validation and test splits, or another folder.

    Attributes:
        class_names: tuple of str. The folders' names, see ``printable``.
        files: list of (path, label).
        class_sizes: dict from each class name to its number of images.
        content: str. Digest of the images' names, relative to ``root``, in their order.

    Raises:
        UserError: no such folder, or several, or one that cannot be read; a class without images,
            with too few to hold some out, or with only folders of images.
    """

    @folders_are_readable()
    def __init__(self, root, split):
        root = pathlib.Path(root)
        split = _known_split(split)
        folder = _folder_of_classes(root, split)

        class_folders = subfolders(folder)
        self.class_names = tuple(printable(path.name) for path in class_folders)
        ignored = collections.Counter()
        images = []
        for class_folder in class_folders:
            paths, others = image_files.below(class_folder)
            images.append(paths)
            ignored += others
        _check_classes(folder, class_folders, images)
        ignored += image_files.beside(folder)

        is_held_out = split in ("train", "validation") and not _split_folder(root, "validation")
        if is_held_out:
            images = [
                _held_out(*one, validation=split == "validation")
                for one in zip(class_folders, images, strict=True)
            ]
        self.files = [(path, label) for label, paths in enumerate(images) for path in paths]
        self.class_sizes = dict(zip(self.class_names, map(len, images), strict=True))
        self.content = _digest(path.relative_to(root) for path, _ in self.files)
        image_files.report_ignored(folder, ignored)
        _report_other_folders(root, folder)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        path, label = self.files[index]
        return path.read_bytes(), label

    def where(self, index):
        path, _ = self.files[index]
        return printable(path)


@folders_are_readable()
def default_split(root):
    """The split of a folder to evaluate on, a str: "validation", "test" or "all", the first that
    it has.

    Raises:
        UserError: a folder cannot be read, or there are several for a split.
    """
    root = pathlib.Path(root)
    return next((split for split in ("validation", "test") if _split_folder(root, split)), ALL)


def _known_split(split):
    """The key of ``SPLITS`` that a split's name stands for, or else the name."""
    return next((key for key, names in SPLITS.items() if split.lower() in names), split)


def _folder_of_classes(root, split):
    """The folder that holds the class folders of a split."""
    folder = _split_folder(root, split)

    # Without a validation split, both splits are made of the training images.
    is_of_training = split in ("train", "validation") and not _split_folder(root, "validation")
    if folder is None and (is_of_training or (split == ALL and default_split(root) == ALL)):
        folder = _split_folder(root, "train")
        if folder is None and root.is_dir() and subfolders(root):
            folder = root

    if folder is None:
        names = " or ".join(SPLITS.get(split, (split,)))
        root, missing = printable(root), printable(root / names if root.is_dir() else root)
        raise UserError(
            f"no folder {missing}: expected {root}/train and {root}/val, with a folder of images"
            f" for each class in both; or {root}/<class>/, of which some are held out to validate"
        )
    return folder


def _split_folder(root, split):
    """The folder of a split, or None.

    A folder that holds images and no folders is a class that happens to be called "train" or "val".
    """
    if not root.is_dir():
        return None

    names = SPLITS.get(split, (split.lower(),))
    folders = [
        path
        for path in subfolders(root)
        if path.name.lower() in names and not _is_class_folder(path)
    ]
    if split not in SPLITS:  # of other names, their case tells two folders apart
        folders = [path for path in folders if path.name == split] or folders

    if len(folders) > 1:
        several = ", ".join(path.name for path in folders)
        raise UserError(
            f"{printable(root)} has {printable(several)} for the split {split}: expected one"
        )
    return next(iter(folders), None)


def _report_other_folders(root, folder):
    """Prints a line with the folders beside that of a split that are not splits."""
    names = {folder.name.lower()}.union(*SPLITS.values())
    others = [path.name for path in subfolders(root) if path.name.lower() not in names]
    if folder != root and others:
        more = ", ..." * (len(others) > SHOWN)
        named = printable(", ".join(others[:SHOWN]))
        image_files.info_once(
            f"{printable(root)}: folders that are not splits are ignored: {named}{more}"
        )


def _is_class_folder(folder):
    return not subfolders(folder) and any(map(image_files.is_image, folder.iterdir()))


def _check_classes(folder, class_folders, images):
    """Raises UserError if a class has no images, or none beside its folders."""
    if not any(images):
        raise UserError(
            f"no images in {printable(folder)}: expected a folder of them for each class"
        )

    classes = list(zip(class_folders, images, strict=True))
    empty = [printable(path.name) for path, paths in classes if not paths]
    if empty:
        raise UserError(
            f"class folders without images in {printable(folder)}: {', '.join(empty)}: add images,"
            " or remove them"
        )

    for path, paths in classes:
        if all(image.parent != path for image in paths):
            inner = ", ".join(one.name for one in subfolders(path)[:SHOWN])
            raise UserError(
                f"{printable(path)} has no images, only folders of them ({printable(inner)}): it"
                " looks like a split or a folder of classes, not like a class: expected"
                f" folder:{printable(path)}, or splits with the names train, val and test"
            )


def _held_out(folder, paths, validation):
    """The images of a class that are held out for validation, or the others."""
    if len(paths) < 2:
        raise UserError(
            f"{printable(folder)} has one image: expected two or more, one to train on and one to"
            " validate, or a folder val/ beside train/"
        )

    # By a hash of the name: an image keeps its place if others are added or the folder is moved.
    shuffled = sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path.name)).digest())

    # At least one image for each of the two splits.
    count = min(max(1, round(HELD_OUT * len(paths))), len(paths) - 1)
    held_out = set(shuffled[:count])
    return [path for path in paths if (path in held_out) == validation]


def _digest(paths):
    names = b"\0".join(os.fsencode(path.as_posix()) for path in paths)
    return f"sha256:{hashlib.sha256(names).hexdigest()}"
