"""A run resumes with the data it was started with, or not at all."""

import json
import shutil

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.data.batches import BatchInfo
from keras_deit.training.checkpoints import Checkpoints
from keras_deit.training.data_identity import check_same_data, describe
from tests import archives
from tests.conftest import recipe


def write_images(root, split, name, numbers):
    folder = root / split / name
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number}.png").write_bytes(archives.jpeg(number, size=(8, 8)))


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A run that has a checkpoint and has not written its end: (images, workdir, recipe)."""
    root = tmp_path_factory.mktemp("run")
    for name in ("ant", "bee"):
        write_images(root / "images", "train", name, range(6))
        write_images(root / "images", "val", name, range(2))
    settings = [
        "epochs=1",
        "passes=1",
        "batch_size=4",
        "train_fraction=1",
        f"dataset=folder:{root / 'images'}",
    ]
    row = recipe("digits_none", *settings)
    kd.train(row, root / "workdir", quiet=True)
    (root / "workdir" / "last.keras").unlink()
    return root / "images", root / "workdir", row


CHANGES = {
    "added": (
        lambda images: write_images(images, "train", "bee", range(6, 20)),
        r"training: images 12 -> 26, steps 3 -> 6, images of bee 6 -> 20\)",
    ),
    "removed": (
        lambda images: (images / "train" / "ant" / "5.png").unlink(),
        r"training: images 12 -> 11, steps 3 -> 2, images of ant 6 -> 5\)",
    ),
    "validation": (
        lambda images: write_images(images, "val", "ant", [7]),
        r"\(validation: images 4 -> 5, images of ant 2 -> 3\)",
    ),
    "classes": (
        lambda images: [
            (images / split / "bee").rename(images / split / "cat") for split in SPLITS
        ],
        r"\(training: new classes cat, missing classes bee; validation: new classes cat, missing",
    ),
    "names": (
        lambda images: (images / "train" / "ant" / "0.png").rename(
            images / "train" / "ant" / "9.png"
        ),
        r"\(training: names or order of the images, sha256:\w+ -> sha256:\w+\): restore the data",
    ),
}
SPLITS = ("train", "val")


@pytest.mark.slow
@pytest.mark.parametrize("without_plan", [False, True])
@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_changed_data_are_refused_before_the_first_step(
    started, tmp_path, change, message, without_plan
):
    images, workdir, row = started
    shutil.copytree(images, tmp_path / "images")
    shutil.copytree(workdir, tmp_path / "workdir")
    # The images are where they were, as the recipe names their folder.
    shutil.move(images, tmp_path / "before")
    shutil.move(tmp_path / "images", images)
    if without_plan:
        (tmp_path / "workdir" / "plan.json").unlink()
    checkpoints = sorted((tmp_path / "workdir" / "checkpoints").iterdir())

    try:
        change(images)
        with pytest.raises(kd.UserError, match=message) as error:
            kd.train(row, tmp_path / "workdir", quiet=True)
    finally:
        shutil.rmtree(images)
        shutil.move(tmp_path / "before", images)

    assert "\n" not in str(error.value)
    assert sorted((tmp_path / "workdir" / "checkpoints").iterdir()) == checkpoints


def test_a_finished_run_is_returned_though_its_data_changed(started, tmp_path):
    images, workdir, row = started
    shutil.copytree(workdir, tmp_path / "workdir")
    model = kd.train(row, tmp_path / "workdir", quiet=True)  # the same data: it resumes
    write_images(images, "train", "ant", [50])
    try:
        again = kd.train(row, tmp_path / "workdir", quiet=True)
    finally:
        (images / "train" / "ant" / "50.png").unlink()
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"content": "pets/1.1.0"}, r"names or order of the images, pets/1\.0\.0 -> pets/1\.1\.0"),
        ({"classes": {"dog": None, "cat": None}}, "order of the classes cat, dog -> dog, cat"),
        (
            {"classes": dict.fromkeys("abcdefg")},
            r"new classes a, b, c, d, e, \.\.\., missing classes",
        ),
    ],
)
def test_datasets_without_files_have_a_version_and_classes(tmp_path, content, message):
    before = {"classes": {"cat": None, "dog": None}, "content": "pets/1.0.0"}

    def described(content):
        training, validation = (
            BatchInfo(("cat", "dog"), 8, 4, 2, content=content) for _ in range(2)
        )
        return json.loads(json.dumps(describe(training, validation)))

    check_same_data(tmp_path, described(before), described(before))
    with pytest.raises(kd.UserError, match=message):
        check_same_data(tmp_path, described(before), described({**before, **content}))


def test_a_checkpoint_of_fewer_steps_removes_none_of_more(tmp_path):
    store = Checkpoints(tmp_path, keep=1)
    for step in (48, 20, 30):
        store.save(step, {"weights": np.zeros(1)}, {})
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["000000030", "000000048"]
