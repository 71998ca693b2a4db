"""The order of samples, and that nothing but seed, epoch and position changes them."""

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
        # Without a validation split, some training images would be held out.
        (root / "val" / folder.name).mkdir(parents=True)
        (root / "val" / folder.name / "0.jpg").write_bytes(file.getvalue())
    return root


def published(root, *settings):
    """The published training, in small: 300 images, four groups of eight."""
    row = kd.RECIPES["digits_none"]
    defaults = {field.name: field.default for field in dataclasses.fields(row)}
    names = ("crop", "flip", "rand_augment", "erasing", "repeats", "mixup")
    row = dataclasses.replace(
        row,
        **{name: defaults[name] for name in names},
        dataset=f"folder:{root}",
        train_fraction=1.0,
        passes=1,
        batch_size=32,
        mix_group=8,
        image_size=24,
    )
    return kd.override(row, settings)


def digest(batches):
    """A hash of each batch."""
    return [
        hashlib.sha256(np.asarray(images).tobytes() + np.asarray(labels).tobytes()).hexdigest()
        for images, labels in batches
    ]


def test_workers_and_restarts_change_nothing(photographs):
    row = published(photographs)
    batches = kd.data.train(row, workers=0)
    assert (batches.steps, batches.info.batch_size, batches.info.images) == (8, 32, 300)
    epochs = digest(batches), digest(batches)
    assert len(set(epochs[0] + epochs[1])) == 16

    for workers in (1, 2):
        batches = kd.data.train(row, workers=workers)
        assert (digest(batches), digest(batches)) == epochs
        next(iter(batches))  # a pass that is left is begun anew
        assert digest(batches) == digest(kd.data.train(row, first_epoch=2))

    resumed = kd.data.train(row, first_epoch=0, first_step=5)
    assert (digest(resumed), digest(resumed)) == (epochs[0][5:], epochs[1])
    assert digest(kd.data.train(row, first_epoch=1)) == epochs[1]
    other_seed = digest(kd.data.train(dataclasses.replace(row, seed=1)))
    assert not set(other_seed) & set(epochs[0])


def test_processes_share_a_batch_by_its_groups(photographs):
    row = published(photographs)
    batch = next(iter(kd.data.train(row)))
    of_processes = [next(iter(kd.data.train(row, process=(index, 2)))) for index in (0, 1)]
    for tensor, pieces in zip(batch, zip(*of_processes, strict=True), strict=True):
        np.testing.assert_array_equal(tensor, np.concatenate(pieces))
    with pytest.raises(kd.UserError, match="images, mixed in groups of 8, for 3 processes"):
        kd.data.train(row, process=(0, 3))


class RecordedSamples(Samples):
    """Records which views would be made, without making them."""

    def make_view(self, epoch, index, view, out=None):
        self.__dict__.setdefault("views", []).append((index, view))
        return np.zeros((1, 1, 3), np.float32), 0


def views_of_epoch(row, epoch=0):
    """(index, view) of every sample of an epoch, by step and group."""
    samples = RecordedSamples(row)
    steps = []
    for step in range(samples.steps):
        groups = []
        for group in range(samples.batch_size // samples.group_size):
            samples.views = []
            samples.make_group(epoch, step, group)
            groups.append(samples.views)
        steps.append(groups)
    return steps


def flat(steps):
    return [view for groups in steps for group in groups for view in group]


def test_repeated_augmentation_is_the_published_one(photographs):
    """256 samples of 300 images: 86 images, 85 of them three times, never twice in a group."""
    epoch = views_of_epoch(published(photographs))
    views = flat(epoch)
    assert len(views) == len(set(views)) == 256
    counts = np.bincount([index for index, _ in views], minlength=300)
    assert sorted(counts[counts > 0]) == [1] + 85 * [3]
    assert {view for _, view in views} == {0, 1, 2}

    for groups in epoch:
        assert [len(group) for group in groups] == 4 * [8]
        for group in groups:
            assert len({index for index, _ in group}) == 8
    assert views_of_epoch(published(photographs), epoch=1) != epoch


def test_without_repeats_every_image_comes_once(photographs):
    once = flat(views_of_epoch(published(photographs, "repeats=1")))
    assert len({index for index, _ in once}) == len(once) == 288  # what fills batches of 32
    twice = flat(views_of_epoch(published(photographs, "repeats=1", "passes=2")))
    assert len(twice) == len(set(twice)) == 576


def test_few_images_make_a_short_batch(photographs):
    batches = kd.data.train(published(photographs, "train_fraction=0.1"))
    assert (batches.info.images, batches.info.batch_size, batches.steps) == (30, 30, 1)


@pytest.mark.parametrize(
    "setting",
    ["crop=padded", "flip=1", "rand_augment=false", "erasing=1", "mixup=0", "mix_group=16"],
)
def test_every_setting_changes_the_batch(photographs, setting):
    images, _ = next(iter(kd.data.train(published(photographs))))
    others, _ = next(iter(kd.data.train(published(photographs, setting))))
    assert np.abs(np.array(images) - np.array(others)).max() > 0.1


def test_a_group_shares_its_lambda(photographs):
    labels = np.array(next(iter(kd.data.train(published(photographs))))[1])
    largest = [np.unique(np.round(group.max(axis=1), 4)) for group in labels.reshape(4, 8, 6)]
    # Lambda or 1 - lambda; or 1, if a class is mixed with itself.
    assert all(len(values) <= 2 for values in largest)
    assert len({values[0] for values in largest}) > 1


def test_the_mix_group_must_divide_the_batch():
    with pytest.raises(kd.UserError, match="a multiple of mix_group=48"):
        kd.override(kd.RECIPES["digits_none"], ["mix_group=48", "batch_size=64"])


@pytest.fixture
def four_images(tmp_path):
    """Two classes of two images, each of one gray level: 10, 80 and 150, 220."""
    for split in ("train", "val"):
        for name, levels in (("a", (10, 80)), ("b", (150, 220))):
            (tmp_path / split / name).mkdir(parents=True)
            for level in levels:
                image = Image.new("RGB", (8, 8), (level, level, level))
                image.save(tmp_path / split / name / f"{level:03}.png")
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*corrupt image")
def test_an_unreadable_image_is_replaced_by_the_next_readable_one(four_images):
    row = published(four_images, "batch_size=4", "mix_group=0", "repeats=1", "image_size=8")
    for path in ("a/080.png", "b/220.png"):
        (four_images / "train" / path).write_bytes(b"no image")
    samples = Samples(row)

    for _ in range(2):  # while they are found, and once they are known
        examples = [samples._read(index) for index in range(4)]
        assert [index for *_, index in examples] == [0, 2, 2, 0]  # after the last comes the first
        assert [int(image[0, 0, 0]) for image, *_ in examples] == [10, 150, 150, 10]
        assert [label for _, label, _ in examples] == [0, 1, 1, 0]
    assert set(samples.unreadable.reasons) == {1, 3}

    for path in (four_images / "train").rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(kd.UserError, match="no readable image in folder:"):
        Samples(row)


@pytest.mark.slow
def test_ten_thousand_images_take_no_more_memory_than_a_few(photographs):
    row = published(photographs, "passes=34", "image_size=64", "repeats=1", "batch_size=64")
    start = time.perf_counter()
    batches = kd.data.train(row, first_step=158)
    assert len(list(batches)) == 1  # the last of 159 steps
    assert time.perf_counter() - start < 2

    images_made = 0
    memory = []
    for images, _ in kd.data.train(row):
        images_made += len(images)
        memory.append(resident())
    assert images_made > 10_000
    assert max(memory) - memory[30] < 50 << 20


def resident():
    """Bytes of memory this process holds."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
