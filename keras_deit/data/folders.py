"""Images in a folder for each class, the layout of torchvision's ImageFolder and of the official
repository."""

import hashlib
import pathlib

from keras_deit.utils.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
HELD_OUT = 0.2  # fraction of each class, if there is no validation split
SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val")}


class Folder:
    """One split: ``folder[i]`` is an encoded image and its label, classes in alphabetical order.

    The images lie in ``<root>/<split>/<class>/``. Without a validation split, "train" and
    "validation" are both made of ``<root>/train/<class>/`` or ``<root>/<class>/``: a fifth of each
    class, chosen only by the images' names, is held out for validation.

    Args:
        root: str or path.
        split: str. "train", "validation" (a folder of that name or ``val``), or another folder.

    Attributes:
        class_names: tuple of str.
        files: list of (path, label).
        class_sizes: dict from each class name to its number of images.
        content: str. Digest of the images' names, relative to ``root``, in their order.

    Raises:
        UserError: no such folder; a class without images, or with too few to hold some out.
    """

    def __init__(self, root, split):
        root = pathlib.Path(root)
        folder = _folder_of_classes(root, split)

        self.class_names = tuple(path.name for path in _subfolders(folder))
        images = {name: _images(folder / name) for name in self.class_names}
        if not any(images.values()):
            raise UserError(f"no images in {folder}: expected a folder of them for each class")
        empty = [name for name in images if not images[name]]
        if empty:
            names = ", ".join(empty)
            raise UserError(
                f"class folders without images in {folder}: {names}: add images, or remove them"
            )

        if split in SPLIT_FOLDERS and _split_folder(root, "validation") is None:
            for name in images:
                images[name] = _held_out(images[name], validation=split == "validation")
        self.files = [
            (path, label) for label, paths in enumerate(images.values()) for path in paths
        ]
        self.class_sizes = {name: len(paths) for name, paths in images.items()}
        self.content = _digest(path.relative_to(root) for path, _ in self.files)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        path, label = self.files[index]
        return path.read_bytes(), label

    def where(self, index):
        path, _ = self.files[index]
        return path


def _folder_of_classes(root, split):
    """The folder that holds the class folders of a split."""
    folder = _split_folder(root, split)

    # Without a validation split, both splits are made of the training images.
    if folder is None and split in SPLIT_FOLDERS and _split_folder(root, "validation") is None:
        folder = _split_folder(root, "train")
        if folder is None and root.is_dir() and _subfolders(root):
            folder = root

    if folder is None:
        names = SPLIT_FOLDERS.get(split, (split,))
        missing = root / " or ".join(names) if root.is_dir() else root
        raise UserError(
            f"no folder {missing}: expected {root}/train and {root}/val, with a folder of images"
            f" for each class in both; or {root}/<class>/, of which some are held out to validate"
        )
    return folder


def _split_folder(root, split):
    """The folder of a split, or None.

    A folder that holds images and no folders is a class that happens to be called "train" or "val".
    """
    for name in SPLIT_FOLDERS.get(split, (split,)):
        folder = root / name
        # An identifier is neither "" nor "..", nor a path.
        if name.isidentifier() and folder.is_dir() and not _is_class_folder(folder):
            return folder
    return None


def _is_class_folder(folder):
    return not _subfolders(folder) and any(map(_is_image, folder.iterdir()))


def _subfolders(folder):
    paths = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(paths, key=lambda path: path.name)


def _images(folder):
    return sorted(filter(_is_image, folder.rglob("*")))


def _is_image(path):
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _held_out(paths, validation):
    """The images of a class that are held out for validation, or the others."""
    if len(paths) < 2:
        raise UserError(
            f"{paths[0].parent} has one image: expected two or more, one to train on and one to"
            " validate, or a folder val/ beside train/"
        )

    # By a hash of the name: an image keeps its place if others are added or the folder is moved.
    shuffled = sorted(
        paths,
        key=lambda path: hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).digest(),
    )

    # At least one image for each of the two splits.
    count = min(max(1, round(HELD_OUT * len(paths))), len(paths) - 1)
    held_out = set(shuffled[:count])
    return [path for path in paths if (path in held_out) == validation]


def _digest(paths):
    names = b"\0".join(path.as_posix().encode("utf-8", "surrogateescape") for path in paths)
    return f"sha256:{hashlib.sha256(names).hexdigest()}"


def image_paths(paths):
    """The image files that paths name.

    Args:
        paths: strs or paths. Files are taken as they are, and of a folder all the images in it.

    Returns:
        A list of ``pathlib.Path``.

    Raises:
        UserError: a path does not exist, or there are no images.
    """
    images = []
    for path in map(pathlib.Path, paths):
        if not path.exists():
            raise UserError(f"no file or folder {path}: expected images")
        images += _images(path) if path.is_dir() else [path]
    if not images:
        raise UserError("no images: expected files, or folders with some in them")
    return images
