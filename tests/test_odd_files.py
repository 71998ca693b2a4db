"""A folder of odd files, in all formats, modes, sizes and states, through all that reads images."""

import pathlib

import numpy as np
import pytest

from keras_deit.data.image_files import image_paths
from tests.programs.odd_files import READERS, make, run, table

# All else is read: floats and 32-bit integers have no range, and the rest is no complete image.
REFUSED = {
    *("mode F.tiff", "mode I.tiff", "bomb 1.png", "bomb 2.png"),
    *("empty.png", "text.jpeg", "program.png"),
    *(f"truncated.{kind}" for kind in ("jpeg", "png", "gif", "webp", "jp2")),
}
JPEG_AND_PNG = (".jpeg", ".jfif", ".png")  # what "encoded" of a SavedModel takes


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The paths, the probabilities by reader and path, the answers of the processes."""
    folder = tmp_path_factory.mktemp("odd")
    paths, results, answers = run(folder)
    print(table(folder, paths, results))  # shown if a test fails
    return paths, results, answers


def test_the_images_below_a_folder_are_found_once(tmp_path):
    paths = make(tmp_path)
    assert len(paths) >= 60
    assert {pathlib.Path(path).name for path in paths} > REFUSED
    assert sorted(map(str, image_paths([tmp_path / "images"]))) == paths


@pytest.mark.slow
def test_all_readers_make_the_same_of_odd_files(ran):
    paths, results, _ = ran
    assert len(paths) >= 60
    for reader in READERS:
        assert sorted(results[reader]) == paths

    for path in map(pathlib.Path, paths):
        expected = results["predict"][str(path)]
        assert (expected is None) == (path.name in REFUSED), path
        for reader in READERS:
            answer = results[reader][str(path)]
            is_taken = reader != "encoded" or path.suffix.lower() in JPEG_AND_PNG
            if expected is None or not is_taken:
                assert answer is None, (reader, path)
            else:
                np.testing.assert_allclose(answer, expected, atol=2e-3, err_msg=f"{reader}, {path}")

    # A file that was read as another would show.
    first = [answer[0] for answer in results["predict"].values() if answer]
    assert np.ptp(first) > 0.3
    turned = [results["predict"][path] for path in paths if "turned" in path and "jpeg" in path]
    assert len(np.unique(turned, axis=0)) == 8


@pytest.mark.slow
def test_a_folder_of_odd_files_is_evaluated_and_trained_on(ran):
    paths, _, (here, _) = ran
    refused = sum(pathlib.Path(path).name in REFUSED for path in paths)
    assert here["classes"] == ["a", "b"]
    assert "top1" in here["scores"]["class"]
    text = f"{refused} of {len(paths)} images cannot be read: "
    (line,) = (line for line in here["warnings"] if line.startswith(text))
    assert line.endswith("they are skipped")


@pytest.mark.slow
def test_odd_files_take_less_than_a_gigabyte(ran):
    """With TensorFlow and Keras, which take most of it."""
    for answer in ran[2]:
        assert answer["peak_memory"] < 1 << 30
