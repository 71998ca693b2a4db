"""Data sets from the files they are published as, through the real builders."""

import dataclasses
import functools
import http.server
import json
import re
import threading

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.data.builders import cars196, i_naturalist2019
from keras_deit.data.builders.digits import Digits
from tests import archives


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
    monkeypatch.setattr(i_naturalist2019, "BASE", address)
    archives.inaturalist_2019(web)
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
    images = {f"ILSVRC2012_val_{i + 1:08}.JPEG": archives.jpeg(i) for i in range(4)}
    archives.archive(manual / "ILSVRC2012_img_val.tar", images)
    datasets.prepare("imagenet2012_real", tmp_path / "data")
    part = datasets.load("imagenet2012_real", "validation", tmp_path / "data")
    assert part.num_classes == 1000
    assert sorted(part[i][1] for i in range(4)) == [(), (1,), (2, 5), (999,)]
    batches = kd.data.images("imagenet2012_real", "validation", tmp_path / "data", (16, 16))
    ((_, labels),) = batches
    assert sorted(np.sum(labels, axis=1)) == [0, 1, 1, 2]


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
