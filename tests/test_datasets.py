"""Data sets from the files they are published as, through the real builders."""

import dataclasses
import functools
import http.server
import io
import json
import re
import shutil
import tarfile
import threading
import warnings

import numpy as np
import pytest
import scipy.io
from PIL import Image

import keras_deit as kd
from keras_deit.data import cars, datasets, inaturalist
from keras_deit.data.digits import Digits


def jpeg(seed, size=(24, 20)):
    pixels = np.random.default_rng(seed).integers(0, 255, (2, 2, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(file, "JPEG")
    return file.getvalue()


def archive(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("split", ["train", "train[10%:30%]", "train+validation", "test[-7:]"])
def test_tfrecord_and_array_record_hold_the_same(split, data_dir, tmp_path_factory):
    other = tmp_path_factory.getbasetemp() / "tfrecord"
    if not other.exists():
        Digits(data_dir=other).download_and_prepare(file_format="tfrecord")
    records = datasets.load("digits", split, data_dir)
    examples = datasets.load("digits", split, other)
    assert type(examples.source.source) is not type(records.source.source)
    assert len(examples) == len(records) > 0
    for index in [*range(min(40, len(records))), len(records) - 1]:
        np.testing.assert_array_equal(examples[index][0], records[index][0])
        assert examples[index][1] == records[index][1]


def test_a_truncated_shard_is_named(data_dir, tmp_path):
    Digits(data_dir=tmp_path).download_and_prepare(file_format="tfrecord")
    (shard,) = tmp_path.rglob("*test.tfrecord*")
    shard.write_bytes(shard.read_bytes()[:-50])
    with pytest.raises(kd.UserError, match=r"test.tfrecord.* is truncated"):
        datasets.load("digits", "test", tmp_path)[3]


@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
def test_a_damaged_record_is_left_out_of_training_and_an_error_in_evaluation(tmp_path, kind):
    Digits(data_dir=tmp_path).download_and_prepare(file_format=kind)
    (shard,) = tmp_path.rglob(f"*train.{kind}*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(content)
    said = rf"(digits, train, example \d+|{re.escape(str(shard))}).*damaged"
    all_at_once = ["passes=1", "batch_size=1000", "mixup=0", "cutmix=0", "max_damaged=1000"]
    row = kd.override(kd.RECIPES["digits_none"], all_at_once)
    for share in (0.1, 1.0):
        stream = kd.data.train(dataclasses.replace(row, train_fraction=share), tmp_path)
        with pytest.warns(UserWarning, match=said):
            list(stream)
        assert 1 <= len(stream.samples.damaged) < 900
    with pytest.raises(Exception, match="damaged record"):
        list(kd.data.images("digits", "train", tmp_path, size=(8, 8)))


@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
@pytest.mark.parametrize("left", [None, b""])
def test_a_missing_shard_is_named_at_once(tmp_path, kind, left):
    Digits(data_dir=tmp_path).download_and_prepare(file_format=kind)
    (shard,) = tmp_path.rglob(f"*train.{kind}*")
    shard.unlink()
    if left is not None:
        shard.write_bytes(left)
    with pytest.raises(kd.UserError, match=rf"remove that folder.*{shard.name} is missing"):
        datasets.load("digits", "train", tmp_path)


def cars_by_hand(folder):
    """Four cars as the original distribution has them."""
    folder.mkdir(parents=True)

    def annotations(labels):
        kinds = [("bbox_x1", "O"), ("bbox_y1", "O"), ("bbox_x2", "O"), ("bbox_y2", "O")]
        rows = np.zeros((1, len(labels)), [*kinds, ("class", "O"), ("fname", "O")])
        for i, label in enumerate(labels):
            rows[0, i] = (1, 2, 20, 18, label, f"{i + 1:05}.jpg")
        file = io.BytesIO()
        scipy.io.savemat(file, {"annotations": rows})
        return file.getvalue()

    for part in ("train", "test"):
        images = {f"cars_{part}/{i + 1:05}.jpg": jpeg(i) for i in range(2)}
        archive(folder / f"cars_{part}.tgz", images)
    archive(folder / "car_devkit.tgz", {"devkit/cars_train_annos.mat": annotations([1, 196])})
    (folder / "cars_test_annos_withlabels.mat").write_bytes(annotations([5, 14]))


def test_stanford_cars_from_files_at_hand(tmp_path):
    with pytest.raises(kd.UserError, match=r"cars196 is not prepared.*cars_train.tgz, cars_test"):
        datasets.load("cars196", "train", tmp_path)
    cars_by_hand(tmp_path / "downloads" / "manual")
    datasets.prepare("cars196", tmp_path)
    train, test = (datasets.load("cars196", split, tmp_path) for split in ("train", "test"))
    assert sorted(train[i][1] for i in range(2)) == [0, 195]
    assert sorted(test[i][1] for i in range(2)) == [4, 13]
    assert train.num_classes == 196
    assert train[0][0].shape == (20, 24, 3)


def test_a_missing_file_of_cars_is_named(tmp_path):
    cars_by_hand(tmp_path / "downloads" / "manual")
    (tmp_path / "downloads" / "manual" / "cars_test.tgz").unlink()
    with pytest.raises(kd.UserError, match=r"no cars_test.tgz in"):
        datasets.prepare("cars196", tmp_path)
    assert cars.FILES[1] == "cars_test.tgz"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A web server over ``tmp_path/web``."""
    (tmp_path / "web").mkdir()
    handler = functools.partial(Quiet, directory=tmp_path / "web")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield tmp_path / "web", f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_inaturalist_2019_from_its_archives(server, tmp_path, monkeypatch):
    web, address = server
    monkeypatch.setattr(inaturalist, "BASE", address)
    names = {i: f"train_val2019/Birds/{i % 3}/{i:032x}.jpg" for i in range(5)}
    archive(web / "train_val2019.tar.gz", {names[i]: jpeg(i) for i in names})
    labels = [7, 1009, 0, 500, 500]
    for part, rows in (("train", range(3)), ("val", range(3, 5))):
        content = {
            "images": [{"id": i, "file_name": names[i]} for i in rows],
            "annotations": [{"image_id": i, "category_id": labels[i]} for i in rows],
        }
        text = json.dumps(content).encode()
        archive(web / f"{part}2019.json.tar.gz", {f"{part}2019.json": text})
    datasets.prepare("i_naturalist2019", tmp_path / "data")
    train, valid = (
        datasets.load("i_naturalist2019", split, tmp_path / "data")
        for split in ("train", "validation")
    )
    assert train.num_classes == 1010
    assert sorted(train[i][1] for i in range(3)) == [0, 7, 1009]
    assert [valid[i][1] for i in range(2)] == [500, 500]


def test_imagenet_real_has_images_of_several_classes(server, tmp_path, monkeypatch):
    web, address = server
    from tensorflow_datasets.datasets.imagenet2012_real import imagenet2012_real_dataset_builder

    monkeypatch.setattr(
        imagenet2012_real_dataset_builder, "_REAL_LABELS_URL", f"{address}/real.json"
    )
    (web / "real.json").write_text(json.dumps([[1], [2, 5], [], [999]]))
    manual = tmp_path / "data" / "downloads" / "manual"
    manual.mkdir(parents=True)
    with tarfile.open(manual / "ILSVRC2012_img_val.tar", "w") as tar:
        for i in range(4):
            info = tarfile.TarInfo(f"ILSVRC2012_val_{i + 1:08}.JPEG")
            info.size = len(jpeg(i))
            tar.addfile(info, io.BytesIO(jpeg(i)))
    datasets.prepare("imagenet2012_real", tmp_path / "data")
    part = datasets.load("imagenet2012_real", "validation", tmp_path / "data")
    assert part.num_classes == 1000
    assert sorted(part[i][1] for i in range(4)) == [(), (1,), (2, 5), (999,)]
    batches = kd.data.images("imagenet2012_real", "validation", tmp_path / "data", (16, 16))
    ((_, labels),) = batches
    assert sorted(np.sum(labels, axis=1)) == [0, 1, 1, 2]


def folder(root, parts=("train", "val"), classes=("bee", "ant", "ćma")):
    for part in parts:
        for label, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for i in range(4):
                (root / part / name / f"{i}.jpg").write_bytes(jpeg(10 * label + i))
    return root


def test_a_folder_of_class_folders(tmp_path):
    folder(tmp_path)
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    train = datasets.load(f"folder:{tmp_path}", "train")
    assert train.class_names == ("ant", "bee", "ćma")
    assert [train[i][1] for i in range(len(train))] == [0] * 4 + [1] * 4 + [2] * 4
    assert len(datasets.load(f"folder:{tmp_path}", "validation")) == 12
    for split, says in (("unlabeled", "expected .*/train and"), ("train", "no images in")):
        shutil.rmtree(tmp_path / "train")
        (tmp_path / "train" / "ant").mkdir(parents=True)
        with pytest.raises(kd.UserError, match=says):
            datasets.load(f"folder:{tmp_path}", split)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such_set", "expected digits, cars196, i_naturalist2019, a name of TensorFlow"),
        ("cifar10", "python -m scripts.prepare --dataset=cifar10 --data_dir="),
        ("imagenet2012", "Download by hand into .*downloads/manual: .*ILSVRC2012_img_train.tar"),
    ],
)
def test_what_is_not_there_is_said(name, says, tmp_path):
    with pytest.raises(kd.UserError, match=says) as error:
        datasets.load(name, "train", tmp_path)
    assert "\n" not in str(error.value)


def damaged(tmp_path, count=1):
    root = folder(tmp_path / "images")
    for i in range(count):
        path = root / "train" / "bee" / f"{i}.jpg"
        path.write_bytes(path.read_bytes()[:100])
    return root


def recipe(root, *settings):
    row = kd.override(kd.RECIPES["digits_none"], [f"dataset=folder:{root}", "train_fraction=1"])
    row = kd.override(row, ["image_size=16", "batch_size=12", "passes=2", "crop=resized"])
    return kd.override(row, settings)


def test_damaged_images_are_left_out_of_training_and_named_once(tmp_path):
    root = damaged(tmp_path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        stream, batches = two_epochs(root)
    (said,) = [str(one.message) for one in said if "damaged" in str(one.message)]
    assert re.search(r"bee/0.jpg: damaged image.*left out, number 1$", said)
    assert len(batches) == 2
    assert list(stream.samples.damaged) == [4]


def two_epochs(root):
    stream = kd.data.train(recipe(root))
    list(stream)
    return stream, list(stream)


@pytest.mark.filterwarnings("ignore:.*damaged image")
def test_too_many_damaged_images_stop_the_training(tmp_path):
    root = damaged(tmp_path, count=3)
    stream = kd.data.train(recipe(root, "max_damaged=2"))
    with pytest.raises(Exception, match=r"3 damaged images, the last .*max_damaged=2 are allowed"):
        list(stream)


def test_a_damaged_image_is_an_error_in_evaluation(tmp_path):
    root = damaged(tmp_path)
    with pytest.raises(Exception, match=r"bee/0.jpg: damaged image"):
        list(kd.data.images(f"folder:{root}", "train", size=(16, 16)))


def test_classes_of_both_parts_must_be_the_same(tmp_path):
    root = folder(tmp_path / "images")
    (root / "val" / "bee").rename(root / "val" / "wasp")
    says = r"train has 3 classes and validation 3; in one of them alone: bee, wasp"
    with pytest.raises(kd.UserError, match=says):
        kd.train(recipe(root), tmp_path / "run")
    (root / "train" / "empty").mkdir()
    with pytest.raises(kd.UserError, match="has no images of empty: add some, or remove"):
        kd.data.train(recipe(root))


def test_hidden_files_are_no_images_and_a_part_is_a_folder(tmp_path):
    root = folder(tmp_path / "images")
    (root / "train" / ".checkpoints").mkdir()
    (root / "train" / "bee" / "._0.jpg").touch()
    assert kd.data.train(recipe(root)).num_classes == 3
    for split in ("test", "", "..", "val/../train"):
        with pytest.raises(kd.UserError, match=r"no folder .*: expected"):
            datasets.load(f"folder:{root}", split)
