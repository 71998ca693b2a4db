"""Datasets from the files they are published as, through the real builders."""

import dataclasses
import functools
import http.server
import itertools
import json
import re
import shutil
import threading
import time

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.data.builders import BUILDERS, cars196, i_naturalist2019
from keras_deit.data.builders.digits import SPLITS, Digits
from keras_deit.data.seeding import generator
from tests import archives
from tests.conftest import ROOT

FORMATS = ["tfrecord", "array_record"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A function that prepares the digits in a format, once, and gives their folder."""

    @functools.cache
    def prepare(file_format):
        folder = tmp_path_factory.mktemp(file_format)
        Digits(data_dir=folder).download_and_prepare(file_format=file_format)
        return folder

    return prepare


@pytest.fixture
def copied(prepared, tmp_path):
    """A function that copies the digits in a format, and gives (folder, shard of a split)."""

    def copy(file_format, split):
        folder = shutil.copytree(prepared(file_format), tmp_path / file_format)
        (shard,) = folder.rglob(f"*{split}.{file_format}*")
        return folder, shard

    return copy


def test_digits_are_scikit_learns_split_by_class(data_dir):
    from sklearn.datasets import load_digits

    splits = {name: datasets.load("digits", name, data_dir) for name in SPLITS}
    assert sum(map(len, splits.values())) == 1797
    assert splits["train"].class_names == tuple("0123456789")

    examples = {}
    for name, split in splits.items():
        labels = [split[i][1] for i in range(len(split))]
        for count in np.bincount(labels, minlength=10):
            assert abs(count - 179.7 * SPLITS[name]) < 5
        examples[name] = [(split[i][0][..., 0].tobytes(), split[i][1]) for i in range(len(split))]

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    truth = sorted((x.tobytes(), int(y)) for x, y in zip(images, digits.target, strict=True))
    assert sorted(itertools.chain(*examples.values())) == truth


@pytest.mark.parametrize("split", ["train", "train[10%:30%]", "train+validation", "test[-7:]"])
def test_tfrecord_and_array_record_hold_the_same(split, data_dir, prepared):
    array_record = datasets.load("digits", split, data_dir)
    tfrecord = datasets.load("digits", split, prepared("tfrecord"))
    assert type(tfrecord.source.source) is not type(array_record.source.source)
    assert len(tfrecord) == len(array_record) > 0
    for index in [*range(min(40, len(array_record))), len(array_record) - 1]:
        np.testing.assert_array_equal(tfrecord[index][0], array_record[index][0])
        assert tfrecord[index][1] == array_record[index][1]


def test_a_subset_takes_the_same_fraction_of_each_class(data_dir):
    dataset = datasets.load("digits", "train", data_dir)
    indices = dataset.subset_indices(0.1, generator(0, 0, 0))
    counts = np.bincount([dataset[int(i)][1] for i in indices])
    assert set(counts) <= {8, 9, 10}
    assert (dataset.subset_indices(0.1, generator(1, 0, 0)) != indices).any()
    assert len(dataset.subset_indices(1.0, None)) == len(dataset)
    assert len(dataset.subset_indices(0.0, generator(0, 0, 0))) == 10


def test_a_truncated_shard_is_named(copied):
    folder, shard = copied("tfrecord", "test")
    shard.write_bytes(shard.read_bytes()[:-50])
    with pytest.raises(kd.UserError, match=r"test.tfrecord.* is truncated"):
        datasets.load("digits", "test", folder)[3]


@pytest.mark.slow
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_corrupt_record_is_skipped_in_training_and_an_error_in_evaluation(copied, file_format):
    folder, shard = copied(file_format, "train")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(content)

    message = rf"(digits, train, example \d+|{re.escape(str(shard))}).*corrupt"
    one_batch = ["passes=1", "batch_size=1000", "mixup=0", "cutmix=0", "max_damaged=1000"]
    row = kd.override(kd.RECIPES["digits_none"], one_batch)
    for fraction in (0.1, 1.0):
        batches = kd.data.train(dataclasses.replace(row, train_fraction=fraction), folder)
        with pytest.warns(UserWarning, match=message):
            list(batches)
        assert 1 <= len(batches.info.unreadable) < 900

    with pytest.raises(Exception, match="corrupt record"):
        list(kd.data.images("digits", "train", folder, size=(8, 8)))


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("content", [None, b""])
def test_a_missing_or_empty_shard_is_named_at_once(copied, file_format, content):
    folder, shard = copied(file_format, "train")
    shard.unlink()
    if content is not None:
        shard.write_bytes(content)
    with pytest.raises(kd.UserError, match=rf"remove that folder.*{shard.name} is missing"):
        datasets.load("digits", "train", folder)


def test_every_builder_has_a_row_and_the_embedded_one_is_ready(tmp_path):
    files = (ROOT / "keras_deit" / "data" / "builders").glob("[!_]*.py")
    modules = {f"keras_deit.data.builders.{path.stem}" for path in files}
    assert {row.module for row in BUILDERS.values()} == modules
    for name, row in BUILDERS.items():
        builder = datasets.make_builder(name, tmp_path)
        assert (type(builder).__module__, type(builder).__name__) == (row.module, row.class_name)
        assert datasets.ready(name, tmp_path) == row.embedded == (name == "digits")


def test_stanford_cars_from_files_at_hand(tmp_path):
    with pytest.raises(kd.UserError, match=r"cars196 is not prepared.*cars_train.tgz, cars_test"):
        datasets.load("cars196", "train", tmp_path)

    archives.cars(tmp_path / "downloads" / "manual")
    datasets.prepare("cars196", tmp_path)
    train, test = (datasets.load("cars196", split, tmp_path) for split in ("train", "test"))
    assert sorted(train[i][1] for i in range(2)) == [0, 195]
    assert sorted(test[i][1] for i in range(2)) == [4, 13]
    assert train.num_classes == 196
    assert train[0][0].shape == (20, 24, 3)


def test_a_missing_file_of_cars_is_named(tmp_path):
    archives.cars(tmp_path / "downloads" / "manual")
    (tmp_path / "downloads" / "manual" / "cars_test.tgz").unlink()
    with pytest.raises(kd.UserError, match=r"no cars_test.tgz in"):
        datasets.prepare("cars196", tmp_path)
    assert cars196.FILES[1] == "cars_test.tgz"


class SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A web server: its folder and its address."""
    (tmp_path / "web").mkdir()
    handler = functools.partial(SilentHandler, directory=tmp_path / "web")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield tmp_path / "web", f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_inaturalist_2019_from_its_archives(server, tmp_path, monkeypatch):
    web, address = server
    monkeypatch.setattr(i_naturalist2019, "BASE", address)
    archives.inaturalist_2019(web)

    datasets.prepare("i_naturalist2019", tmp_path / "data")
    train, validation = (
        datasets.load("i_naturalist2019", split, tmp_path / "data")
        for split in ("train", "validation")
    )
    assert train.num_classes == 1010
    assert sorted(train[i][1] for i in range(3)) == [0, 7, 1009]
    assert [validation[i][1] for i in range(2)] == [500, 500]


def test_a_server_that_is_not_there_is_one_line_in_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(i_naturalist2019, "BASE", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(kd.UserError) as raised:
        datasets.prepare("i_naturalist2019", tmp_path / "data")
    assert time.monotonic() - start < 20
    assert str(raised.value).startswith(
        "i_naturalist2019 could not be prepared: no connection to 127.0.0.1:9:"
    )
    assert "\n" not in str(raised.value)


def test_imagenet_real_has_images_of_several_classes(server, tmp_path, monkeypatch):
    from tensorflow_datasets.datasets.imagenet2012_real import imagenet2012_real_dataset_builder

    web, address = server
    monkeypatch.setattr(
        imagenet2012_real_dataset_builder, "_REAL_LABELS_URL", f"{address}/real.json"
    )
    (web / "real.json").write_text(json.dumps([[1], [2, 5], [], [999]]))
    manual = tmp_path / "data" / "downloads" / "manual"
    manual.mkdir(parents=True)
    images = {f"ILSVRC2012_val_{i + 1:08}.JPEG": archives.jpeg(i) for i in range(4)}
    archives.archive(manual / "ILSVRC2012_img_val.tar", images)

    datasets.prepare("imagenet2012_real", tmp_path / "data")
    dataset = datasets.load("imagenet2012_real", "validation", tmp_path / "data")
    assert dataset.num_classes == 1000
    assert sorted(dataset[i][1] for i in range(4)) == [(), (1,), (2, 5), (999,)]

    batches = kd.data.images("imagenet2012_real", "validation", tmp_path / "data", (16, 16))
    ((_, labels),) = batches
    assert sorted(np.sum(labels, axis=1)) == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_set", "expected digits, cars196, i_naturalist2019, a name of TensorFlow"),
        ("cifar10", "python -m scripts.prepare --dataset=cifar10 --data_dir="),
        ("imagenet2012", "Download by hand into .*downloads/manual: .*ILSVRC2012_img_train.tar"),
    ],
)
def test_errors_name_missing_datasets(name, message, tmp_path):
    with pytest.raises(kd.UserError, match=message) as error:
        datasets.load(name, "train", tmp_path)
    assert "\n" not in str(error.value)


@pytest.fixture
def store(tmp_path):
    """A function that writes five images with labels of some feature, and opens them."""
    import tensorflow_datasets as tfds

    def store_and_load(label, of=lambda number: number):
        image = tfds.features.Image(shape=(8, 8, 3))
        black = np.zeros((8, 8, 3), np.uint8)
        examples = [(i, {"image": black, "label": of(i)}) for i in range(5)]
        tfds.dataset_builders.store_as_tfds_dataset(
            name="mine",
            version="1.0.0",
            features=tfds.features.FeaturesDict({"image": image, "label": label}),
            split_datasets={"train": examples},
            data_dir=tmp_path,
            disable_shuffling=True,
        )
        return datasets.load("mine", "train", tmp_path)

    return store_and_load


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"num_classes": 5}, ("class 0", "class 1", "class 2", "class 3", "class 4")),
        ({"names": list("01234")}, tuple("01234")),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_labels_with_and_without_names(fields, names, several, store):
    import tensorflow_datasets as tfds

    label = tfds.features.ClassLabel(**fields)
    if several:
        dataset = store(tfds.features.Sequence(label), lambda number: [number])
    else:
        dataset = store(label)
    assert dataset.class_names == names
    assert dataset[3][1] == ((3,) if several else 3)


def test_labels_without_a_number_of_classes_are_refused(store):
    import tensorflow_datasets as tfds

    with pytest.raises(kd.UserError, match="mine: its label has no number of classes: expected a"):
        store(tfds.features.Scalar(np.int64))
