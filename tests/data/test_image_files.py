"""Which files below a folder are images, and what is said of the others."""

import os

import numpy as np
import pytest
from PIL import Image

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.data.decode import decode
from keras_deit.data.image_files import below, image_paths, suffixes
from keras_deit.utils.errors import Unreadable

FORMATS = ("jpg", "jfif", "jpe", "png", "gif", "avif", "webp", "bmp", "ppm", "pgm", "jp2", "j2k")
FORMATS += ("tif", "tga", "ico", "pcx", "qoi", "sgi")


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names_below(folder):
    images, ignored = below(folder)
    return [str(path.relative_to(folder)) for path in images], dict(ignored)


def test_all_formats_of_pillow_are_images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    for suffix in FORMATS:
        Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    images, ignored = below(tmp_path)
    assert len(images) == len(FORMATS)
    assert not ignored
    for path in images:
        assert decode(path.read_bytes()).shape == (16, 16, 3)


def test_what_pillow_gives_to_other_programs_is_no_image(tmp_path):
    assert not {".eps", ".ps", ".pdf", ".wmf", ".emf", ".h5", ".mpg"} & suffixes()
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    with pytest.raises(Unreadable, match="no known format"):
        decode((tmp_path / "a.eps").read_bytes())


def test_links_are_followed_once(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    touch(inside, "a.jpg", "deep/b.jpg")
    touch(outside, "c.jpg", "more/d.jpg")
    (inside / "link").symlink_to(outside)
    (inside / "second").symlink_to(outside)
    (outside / "loop").symlink_to(outside)
    (outside / "above").symlink_to(tmp_path)
    (inside / "deep" / "loop").symlink_to(inside)
    (inside / "file.jpg").symlink_to(outside / "c.jpg")
    (inside / "broken.jpg").symlink_to(outside / "none")

    images = ["a.jpg", "deep/b.jpg", "file.jpg", "link/c.jpg", "link/more/d.jpg"]
    assert names_below(inside) == (images, {"broken links": 1})


def test_hidden_and_other_files_are_counted_by_kind(tmp_path, capsys):
    touch(tmp_path, "a.jpg", "b.txt", "C.TXT", "README", ".DS_Store", ".git/c.jpg", "d/._a.jpg")
    os.mkfifo(tmp_path / "pipe.png")
    kinds = {".txt": 2, "without suffix": 1, "hidden": 3, "special files": 1}
    assert names_below(tmp_path) == (["a.jpg"], kinds)

    for _ in range(2):
        image_paths([tmp_path])
    line = "7 files ignored: 3 hidden, 2 .txt, 1 "
    (printed,) = capsys.readouterr().out.splitlines()
    assert printed.startswith(f"{tmp_path}: {line}")

    root = tmp_path / "classes"
    touch(root, "ant/a.jpg", "ant/notes.txt", "bee/b.gif", "bee/.hidden")
    datasets.load(f"folder:{root}", "all")
    assert capsys.readouterr().out == f"{root}: 2 files ignored: 1 .txt, 1 hidden\n"


def test_what_lies_beside_classes_and_splits_is_named(tmp_path, capsys):
    root, photos = tmp_path / "splits", tmp_path / "photos"
    touch(root, "train/ant/a.jpg", "val/ant/b.jpg", "Testing/ant/c.jpg", "extra/ant/d.jpg")
    touch(photos, "ant/a.jpg", "bee/b.jpg", "0.jpg", "1.png", "labels.csv", ".git/head")
    for _ in range(2):
        datasets.load(f"folder:{root}", "train")
        datasets.load(f"folder:{photos}", "all")

    assert capsys.readouterr().out.splitlines() == [
        f"{root}: folders that are not splits are ignored: extra",
        f"{photos}: 4 files ignored: 2 images outside the folders, 1 hidden, 1 .csv",
    ]


def test_image_paths_are_files_and_all_images_of_folders(tmp_path):
    touch(tmp_path, "a/ant/0.jpg", "a/ant/1.jpg", "a/notes.txt")
    other = tmp_path / "other.raw"
    other.touch()
    paths = image_paths([str(other), tmp_path / "a"])
    assert paths == [other, tmp_path / "a" / "ant" / "0.jpg", tmp_path / "a" / "ant" / "1.jpg"]

    (tmp_path / "empty").mkdir()
    for given, message in (
        ([tmp_path / "none"], "no file or folder .*none"),
        ([tmp_path / "empty"], "no images"),
    ):
        with pytest.raises(kd.UserError, match=message):
            image_paths(given)
