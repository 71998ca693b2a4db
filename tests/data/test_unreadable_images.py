"""Images of a folder that cannot be read: skipped and named, up to a number."""

import re
import warnings

import numpy as np
import pytest

import keras_deit as kd
from tests.data.test_folders import folder, kd_recipe


def with_corrupt_images(tmp_path, count=1):
    """A folder whose first training images of "bee" are truncated."""
    root = folder(tmp_path / "images")
    for i in range(count):
        path = root / "train" / "bee" / f"{i}.jpg"
        path.write_bytes(path.read_bytes()[:100])
    return root


def test_unreadable_images_are_skipped_in_training_and_named_once(tmp_path):
    root = with_corrupt_images(tmp_path)
    batches = kd.data.train(kd_recipe(root))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [len(list(batches)) for epoch in range(2)] == [2, 2]

    (message,) = [str(one.message) for one in caught if "corrupt" in str(one.message)]
    assert re.search(r"bee/0.jpg: corrupt image.*skipped \(1 unreadable so far in train\)", message)
    assert list(batches.info.unreadable) == [4]
    assert "bee/0.jpg: corrupt image" in batches.info.unreadable[4]


@pytest.mark.filterwarnings("ignore:.*corrupt image")
def test_too_many_unreadable_images_stop_training(tmp_path):
    root = with_corrupt_images(tmp_path, count=3)
    batches = kd.data.train(kd_recipe(root, "max_damaged=2"))
    with pytest.raises(Exception, match=r"3 unreadable images, the last .*at most max_damaged=2"):
        list(batches)


def test_an_unreadable_image_is_an_error_in_evaluation(tmp_path):
    root = with_corrupt_images(tmp_path)
    with pytest.raises(Exception, match=r"bee/0.jpg: corrupt image"):
        list(kd.data.images(f"folder:{root}", "train", size=(16, 16)))


def test_unreadable_images_are_skipped_in_validation(tmp_path):
    root = with_corrupt_images(tmp_path)
    (root / "val" / "ant" / "1.jpg").write_bytes(b"")
    batches = kd.data.evaluation(kd_recipe(root))
    with pytest.warns(UserWarning, match=r"ant/1.jpg: no image: its file is empty: skipped .*vali"):
        labels = [labels for _, labels in batches.as_numpy_iterator()]
    labeled = sum(map(np.sum, labels))
    assert (batches.info.images, labeled, len(batches.info.unreadable)) == (12, 11, 1)

    with pytest.raises(Exception, match=r"ant/1.jpg: no image"):
        list(kd.data.evaluation(kd_recipe(root, "max_damaged=0")))
