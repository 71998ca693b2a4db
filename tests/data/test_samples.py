"""The order of samples, and that nothing but seed, epoch and place changes them."""

import dataclasses
import hashlib
import io
import os
import pathlib
import time

import numpy as np
import pytest
from PIL import Image

import keras_deit as kd
from keras_deit.data.samples import Samples


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Six classes of fifty small photographs, all different."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for label in range(6):
        folder = root / "train" / f"class{label}"
        folder.mkdir(parents=True)
        for i in range(50):
            pixels = rng.integers(0, 255, (3, 4, 3), np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).resize((40, 30)).save(file, "JPEG")
            (folder / f"{i:02}.jpg").write_bytes(file.getvalue())
        (root / "val" / folder.name).mkdir(parents=True)  # without it, some would be held out
        (root / "val" / folder.name / "0.jpg").write_bytes(file.getvalue())
    return root


def published(root, *settings):
    """The published training, in small: 300 images, four groups of eight."""
    row = kd.RECIPES["digits_none"]
    fields = {field.name: field.default for field in dataclasses.fields(row)}
    names = ("crop", "flip", "rand_augment", "erasing", "repeats", "mixup")
    row = dataclasses.replace(
        row,
        **{name: fields[name] for name in names},
        dataset=f"folder:{root}",
        train_fraction=1.0,
        passes=1,
        batch_size=32,
        mix_group=8,
        image_size=24,
    )
    return kd.override(row, settings)


def digest(stream):
    sums = []
    for images, labels in stream:
        sums.append(hashlib.sha256(np.asarray(images).tobytes() + np.asarray(labels).tobytes()))
    return [each.hexdigest() for each in sums]


def test_workers_and_restarts_change_nothing(photographs):
    row = published(photographs)
    stream = kd.data.train(row, workers=0)
    assert (stream.steps, stream.batch_size, stream.images) == (8, 32, 300)
    epochs = digest(stream), digest(stream)
    assert len(set(epochs[0] + epochs[1])) == 16
    for workers in (1, 2):
        stream = kd.data.train(row, workers=workers)
        assert (digest(stream), digest(stream)) == epochs
        next(iter(stream))  # a pass that is left is begun anew
        assert digest(stream) == digest(kd.data.train(row, first_epoch=2))
    again = kd.data.train(row, first_epoch=0, first_step=5)
    assert (digest(again), digest(again)) == (epochs[0][5:], epochs[1])
    assert digest(kd.data.train(row, first_epoch=1)) == epochs[1]
    assert not set(digest(kd.data.train(dataclasses.replace(row, seed=1)))) & set(epochs[0])


def test_processes_share_a_batch_by_its_groups(photographs):
    row = published(photographs)
    whole = next(iter(kd.data.train(row)))
    parts = [next(iter(kd.data.train(row, process=(index, 2)))) for index in (0, 1)]
    for one, two in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(one, np.concatenate(two))
    with pytest.raises(kd.UserError, match="images, mixed in groups of 8, for 3 processes"):
        kd.data.train(row, process=(0, 3))


class Seen(Samples):
    """What would be made, without making it."""

    def view(self, epoch, index, turn, out=None):
        self.__dict__.setdefault("keys", []).append((index, turn))
        return np.zeros((1, 1, 3), np.float32), 0


def keys(row, epoch=0):
    """(index, turn) of every sample of an epoch, by step and group."""
    samples = Seen(row)
    found = []
    for step in range(samples.steps):
        groups = []
        for number in range(samples.size // samples.group):
            samples.keys = []
            samples.group_of(epoch, step, number)
            groups.append(samples.keys)
        found.append(groups)
    return found


def test_repeated_augmentation_is_the_published(photographs):
    """256 samples of 300 images: 86 images, 85 of them three times, never twice in a group."""
    epoch = keys(published(photographs))
    flat = [key for step in epoch for group in step for key in group]
    assert len(flat) == len(set(flat)) == 256
    counts = np.bincount([index for index, _ in flat], minlength=300)
    assert sorted(counts[counts > 0]) == [1] + 85 * [3]
    assert {turn for _, turn in flat} == {0, 1, 2}
    for step in epoch:
        assert [len(group) for group in step] == 4 * [8]
        for group in step:
            assert len({index for index, _ in group}) == 8
    assert keys(published(photographs), epoch=1) != epoch


def test_without_repeats_every_image_comes_once(photographs):
    flat = [k for step in keys(published(photographs, "repeats=1")) for g in step for k in g]
    assert len({index for index, _ in flat}) == len(flat) == 288  # what fills batches of 32
    twice = [
        k
        for step in keys(published(photographs, "repeats=1", "passes=2"))
        for group in step
        for k in group
    ]
    assert len(twice) == len(set(twice)) == 576


def test_few_images_make_a_short_batch(photographs):
    stream = kd.data.train(published(photographs, "train_fraction=0.1"))
    assert (stream.images, stream.batch_size, stream.steps) == (30, 30, 1)


@pytest.mark.parametrize(
    "setting",
    ["crop=padded", "flip=1", "rand_augment=false", "erasing=1", "mixup=0", "mix_group=16"],
)
def test_every_setting_changes_the_batch(photographs, setting):
    first = next(iter(kd.data.train(published(photographs))))[0]
    other = next(iter(kd.data.train(published(photographs, setting))))[0]
    assert np.abs(np.array(first) - np.array(other)).max() > 0.1


def test_a_group_shares_its_lambda(photographs):
    labels = np.array(next(iter(kd.data.train(published(photographs))))[1])
    shares = [np.unique(np.round(group.max(axis=1), 4)) for group in labels.reshape(4, 8, 6)]
    assert all(len(share) <= 2 for share in shares)  # lambda or more, or one class with itself
    assert len({share[0] for share in shares}) > 1


def test_a_batch_that_groups_do_not_divide_is_refused():
    with pytest.raises(kd.UserError, match="a multiple of mix_group=48"):
        kd.override(kd.RECIPES["digits_none"], ["mix_group=48", "batch_size=64"])


@pytest.mark.slow
def test_ten_thousand_images_take_no_more_memory_than_a_few(photographs):
    row = published(photographs, "passes=34", "image_size=64", "repeats=1", "batch_size=64")
    start = time.perf_counter()
    stream = kd.data.train(row, first_step=158)
    assert len(list(stream)) == 1  # the last of 159 steps
    assert time.perf_counter() - start < 2
    seen, memory = 0, []
    for images, _ in kd.data.train(row):
        seen += len(images)
        memory.append(resident())
    assert seen > 10_000
    assert max(memory) - memory[30] < 50 << 20


def resident():
    """Bytes of memory this process holds."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
