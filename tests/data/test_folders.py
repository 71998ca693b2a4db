"""A folder of class folders: its splits and its classes."""

import shutil
import warnings

import numpy as np
import pytest
from PIL import ExifTags, Image

import keras_deit as kd
from keras_deit.configs.preprocessing import Preprocessing
from keras_deit.data import datasets
from tests import archives
from transfer import folder_check, recipe
from transfer.tasks import folder_task


def folder(root, classes=("bee", "ant", "ćma")):
    """Four images of each class in each split."""
    for split in ("train", "val"):
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for i in range(4):
                (root / split / name / f"{i}.jpg").write_bytes(archives.jpeg(10 * label + i))
    return root


def test_a_folder_of_class_folders(tmp_path):
    folder(tmp_path)
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    train = datasets.load(f"folder:{tmp_path}", "train")
    assert train.class_names == ("ant", "bee", "ćma")
    assert [train[i][1] for i in range(len(train))] == [0] * 4 + [1] * 4 + [2] * 4
    assert len(datasets.load(f"folder:{tmp_path}", "validation")) == 12

    # What tells a changed folder, but not one that has moved.
    content = train.content
    assert content["classes"] == {"ant": 4, "bee": 4, "ćma": 4}
    (tmp_path / "train" / "ant" / "0.jpg").rename(tmp_path / "train" / "ant" / "9.jpg")
    renamed = datasets.load(f"folder:{tmp_path}", "train").content
    assert renamed["classes"] == content["classes"]
    assert renamed["content"] != content["content"]
    for split in ("train", "val"):
        shutil.copytree(tmp_path / split, tmp_path / "moved" / split)
    assert datasets.load(f"folder:{tmp_path / 'moved'}", "train").content == renamed

    shutil.rmtree(tmp_path / "train")
    (tmp_path / "train" / "ant").mkdir(parents=True)
    for split, message in (("unlabeled", "expected .*/train and"), ("train", "no images in")):
        with pytest.raises(kd.UserError, match=message):
            datasets.load(f"folder:{tmp_path}", split)


def kd_recipe(root, *settings):
    row = kd.override(kd.RECIPES["digits_none"], [f"dataset=folder:{root}", "train_fraction=1"])
    row = kd.override(row, ["image_size=16", "batch_size=12", "passes=2", "crop=resized"])
    return kd.override(row, settings)


def test_both_splits_must_have_the_same_classes(tmp_path):
    root = folder(tmp_path / "images")
    (root / "val" / "bee").rename(root / "val" / "wasp")
    message = r"train has 3 classes and validation 3; only one split has: bee, wasp"
    with pytest.raises(kd.UserError, match=message):
        kd.train(kd_recipe(root), tmp_path / "run")

    (root / "train" / "empty").mkdir()
    with pytest.raises(
        kd.UserError, match=r"class folders without images in .*: empty: add images, or remove"
    ):
        kd.data.train(kd_recipe(root))


def test_the_table_of_splits_with_different_classes(tmp_path, capsys):
    root = folder(tmp_path / "images")
    (root / "val" / "ant").rename(root / "val" / "wasp")
    (root / "val" / "wasp" / "0.jpg").unlink()
    folder_check.examine(recipe(folder_task(f"folder:{root}"), "deit_digits"))
    rows = ("| ant | 4 | 0 |", "| bee | 4 | 4 |", "| wasp | 0 | 3 |", "| ćma | 4 | 4 |")
    assert "\n".join(rows) in capsys.readouterr().out


def test_hidden_files_are_ignored_and_a_split_is_a_folder(tmp_path):
    root = folder(tmp_path / "images")
    (root / "train" / ".checkpoints").mkdir()
    (root / "train" / "bee" / "._0.jpg").touch()
    assert kd.data.train(kd_recipe(root)).num_classes == 3
    for split in ("test", "", "..", "val/../train"):
        with pytest.raises(kd.UserError, match=r"no folder .*: expected"):
            datasets.load(f"folder:{root}", split)


def flat(root, **classes):
    """``root/<class>/`` with so many images of each class."""
    for label, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"{i}.jpg").write_bytes(archives.jpeg(100 * label + i))
    return f"folder:{root}"


def files(name, split):
    return [path for path, _ in datasets.load(name, split).source.files]


def test_a_fifth_of_each_class_is_held_out_without_a_validation_split(tmp_path):
    name = flat(tmp_path / "a", ant=10, bee=5, cat=2)
    classes = ("ant", "bee", "cat")
    train, validation = files(name, "train"), files(name, "validation")
    assert sorted(train + validation) == sorted((tmp_path / "a").rglob("*.jpg"))
    for paths, counts in ((train, [8, 4, 1]), (validation, [2, 1, 1])):
        assert [sum(path.parent.name == label for path in paths) for label in classes] == counts

    # The same images in a folder "train" are split in the same way.
    (tmp_path / "b").mkdir()
    shutil.move(tmp_path / "a", tmp_path / "b" / "train")
    moved = files(f"folder:{tmp_path / 'b'}", "validation")
    assert [path.name for path in moved] == [path.name for path in validation]

    # With a validation split nothing is held out.
    for label in classes:
        (tmp_path / "b" / "val" / label).mkdir(parents=True)
        (tmp_path / "b" / "val" / label / "0.png").write_bytes(archives.jpeg(7))
    assert len(files(f"folder:{tmp_path / 'b'}", "train")) == 17
    assert len(files(f"folder:{tmp_path / 'b'}", "validation")) == 3


def test_classes_may_have_the_names_of_splits(tmp_path):
    data = datasets.load(flat(tmp_path, train=4, car=4, val=4), "train")
    assert data.class_names == ("car", "train", "val")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"ant": 4}, "has one class, ant: expected two or more"),
        ({"ant": 4, "bee": 0}, r"without images in .*: bee: add images, or remove"),
        ({"ant": 4, "bee": 1}, "bee has one image: expected two or more"),
        ({}, "no folder .*: expected .*/train and .*/val"),
    ],
)
def test_too_little_is_refused(tmp_path, classes, message):
    task = folder_task(flat(tmp_path, **classes))
    with pytest.raises(kd.UserError, match=message):
        folder_check.examine(recipe(task, "deit_digits"))


def mixed(root):
    """Two classes with unicode names, of images in every mode and format."""
    rng = np.random.default_rng(5)
    modes = [("RGB", "jpg"), ("L", "png"), ("RGBA", "png"), ("RGBA", "webp"), ("P", "png")]
    modes += [("CMYK", "jpeg"), ("1", "bmp"), ("LA", "PNG"), ("I;16", "tiff")]
    for name in ("Käfer ❤", "ćma 蛾"):
        (root / name).mkdir(parents=True)
        for i, (mode, suffix) in enumerate(modes):
            pixels = rng.integers(0, 255, (20, 24, 3), np.uint8)
            image = Image.fromarray(pixels)
            image = Image.fromarray(pixels[..., 0].astype(np.uint16)) if ";" in mode else image
            (image if ";" in mode else image.convert(mode)).save(root / name / f"ß {i}.{suffix}")
    return f"folder:{root}"


def test_any_image_and_name_is_taken_and_what_cannot_be_read_is_named(tmp_path, capsys):
    name = mixed(tmp_path)
    row = recipe(folder_task(name), "deit_digits")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder_check.examine(row)
    assert "| Käfer ❤ | 7 | 2 |\n| ćma 蛾 | 7 | 2 |" in capsys.readouterr().out
    (tmp_path / "ćma 蛾" / "half.jpg").write_bytes(archives.jpeg(1)[:200])
    (tmp_path / "ćma 蛾" / "empty.png").touch()
    folder_check._examined.cache_clear()
    with pytest.warns(UserWarning, match=r"2 of 20 images cannot be read: .*(half|empty).*skipped"):
        folder_check.examine(row)
    folder_check._examined.cache_clear()
    with pytest.raises(kd.UserError, match=r"2 of 20 .*: remove or replace them, or set max_dam"):
        folder_check.examine(kd.override(row, ["max_damaged=1"]))


@pytest.mark.filterwarnings("ignore:.*cannot be read")
def test_a_class_without_a_readable_image_is_refused(tmp_path):
    name = flat(tmp_path, ant=4, bee=4)
    for path in (tmp_path / "bee").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(kd.UserError, match="none of the images of bee for train can be read"):
        folder_check.examine(recipe(folder_task(name), "deit_digits"))


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("Training", "VAL", "Testing"), ("TRAIN", "valid", "Test"), ("train", "Dev", "testing")],
)
def test_splits_have_their_common_names_in_any_case(tmp_path, train, validation, test):
    for count, name in enumerate((train, validation, test), 1):
        flat(tmp_path / name, ant=count, bee=1)
    name = f"folder:{tmp_path}"
    for split, count in (("train", 1), ("validation", 2), (validation.lower(), 2), ("test", 3)):
        assert datasets.load(name, split).content["classes"] == {"ant": count, "bee": 1}
    assert datasets.default_split(name) == "validation"

    shutil.rmtree(tmp_path / validation)
    assert datasets.default_split(name) == "test"
    with pytest.raises(kd.UserError, match=r"no folder .*all"):
        datasets.load(name, "all")


def test_two_folders_of_one_split_are_refused(tmp_path):
    for name in ("train", "validation", "valid", "extra", "Extra"):
        flat(tmp_path / name, ant=2, bee=1 + name.istitle())
    for split in ("validation", "valid", "train"):
        message = "has valid, validation for the split validation: expected one"
        with pytest.raises(kd.UserError, match=message):
            datasets.load(f"folder:{tmp_path}", split)
    assert len(datasets.load(f"folder:{tmp_path}", "Extra")) == 4


def test_all_images_of_a_folder_without_splits(tmp_path):
    name = flat(tmp_path / "a", ant=10, bee=5)
    assert datasets.default_split(name) == "all"
    assert files(name, "all") == sorted((tmp_path / "a").rglob("*.jpg"))
    (tmp_path / "a").rename(tmp_path / "train")
    assert len(files(f"folder:{tmp_path}", "all")) == 15


def test_a_class_that_holds_only_folders_is_refused(tmp_path):
    flat(tmp_path / "photos" / "animals", ant=2, bee=2)
    flat(tmp_path / "photos", cat=2)
    message = r"animals has no images, only folders of them \(ant, bee\): it looks like a split or"
    with pytest.raises(kd.UserError, match=message):
        datasets.load(f"folder:{tmp_path / 'photos'}", "train")

    # A class may have folders beside its images.
    (tmp_path / "photos" / "animals" / "0.jpg").write_bytes(archives.jpeg(0))
    assert len(datasets.load(f"folder:{tmp_path / 'photos'}", "all")) == 7


def test_photos_are_upright_in_training_and_validation_if_the_recipe_says_so(tmp_path):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 3  # upside down
    root = folder(tmp_path)
    rows = np.arange(16, dtype=np.uint8)[:, np.newaxis, np.newaxis]
    pixels = np.broadcast_to(rows * 16, (16, 16, 3))
    for path in root.rglob("*.jpg"):
        Image.fromarray(pixels).save(path, exif=tags)

    plain = ["crop=padded", "flip=0", "erasing=0", "rand_augment=false", "mixup=0", "cutmix=0"]
    assert recipe(folder_task(f"folder:{root}"), "deit_digits").upright
    for upright in (False, True):
        row = kd_recipe(root, *plain, f"upright={str(upright).lower()}", "eval_crop=1")
        for batches in (kd.data.train(row), kd.data.evaluation(row)):
            images, _ = next(batches.as_numpy_iterator())
            assert ((images[:, 0] > images[:, -1]) == upright).all()

        preprocessing = Preprocessing(upright=upright)
        batches = kd.data.images(
            f"folder:{root}", "val", None, (16, 16), 1, preprocessing=preprocessing
        )
        images, _ = next(batches.as_numpy_iterator())
        assert ((images[:, 0] > images[:, -1]) == upright).all()


def test_names_of_folders_and_files_need_not_be_unicode(tmp_path, capsys):
    for name in ("a\udce9", "a\udcea"):
        touched = tmp_path / name / "b\udce9.txt"
        flat(tmp_path, **{name: 2})
        touched.touch()
    row = recipe(folder_task(f"folder:{tmp_path}"), "deit_digits")
    folder_check.examine(row)
    assert "| a\\udce9 | 1 | 1 |\n| a\\udcea | 1 | 1 |" in capsys.readouterr().out

    data = datasets.load(row.dataset, "all")
    assert data.class_names == ("a\\udce9", "a\\udcea")
    assert data.where(0) == f"{tmp_path}/a\\udce9/0.jpg"
    assert len(kd.data.images(row.dataset, "all", size=(8, 8)).class_names) == 2
    with pytest.raises(kd.UserError, match=r"no folder .*a.udce9/none: expected"):
        datasets.load(f"folder:{tmp_path}/a\udce9/none", "all")
