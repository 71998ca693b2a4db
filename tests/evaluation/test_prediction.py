"""Predictions for image files."""

import numpy as np
import pytest
from PIL import ExifTags, Image

import keras_deit as kd
from keras_deit.configs.preprocessing import Preprocessing
from keras_deit.data.decode import decode
from keras_deit.data.transforms import evaluation_view
from keras_deit.evaluation.prediction import BATCH_SIZE, predict


def test_unreadable_files_are_named_among_the_predictions(tmp_path, tiny, photographs):
    paths = [tmp_path / "a.png", tmp_path / "b.jpg", tmp_path / "none.png", tmp_path / "c.png"]
    for path, photograph in zip((paths[0], paths[3]), photographs, strict=True):
        Image.fromarray(photograph).save(path)
    paths[1].write_text("no image")

    predictions = list(predict(tiny, paths, crop=0.5))
    assert [path for path, *_ in predictions] == paths
    assert [image is None for _, image, _ in predictions] == [False, True, True, False]
    assert "no known format" in predictions[1][2]
    assert predictions[2][2] == "No such file or directory"

    for path, image, probabilities in (predictions[0], predictions[3]):
        view = evaluation_view(decode(path.read_bytes()), tiny.image_size, 0.5)
        np.testing.assert_array_equal(image, view)
        exponentials = np.exp(np.array(tiny(image[None]))[0])
        np.testing.assert_allclose(probabilities, exponentials / exponentials.sum(), rtol=1e-4)


def test_images_are_predicted_in_batches_and_in_order(tmp_path, tiny):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i:02}.png" for i in range(BATCH_SIZE + 1)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (24, 16, 3), np.uint8)).save(path)

    paths = list(map(str, paths))
    predictions = list(predict(tiny, paths, crop=1))
    assert [path for path, *_ in predictions] == paths
    images = np.stack([image for _, image, _ in predictions])
    assert len(np.unique(images, axis=0)) == len(paths)
    np.testing.assert_allclose(sum(predictions[-1][2]), 1, rtol=1e-5)


def test_model_without_a_size_needs_one():
    with pytest.raises(kd.UserError, match="takes images of any size: give image_size"):
        next(predict(kd.build("regnety_digits"), []))


def test_images_are_as_the_model_expects_them(tmp_path, photographs):
    half = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    model = kd.DeiT((24, 16), 8, 12, 1, 3, num_classes=5, preprocessing=half)
    path = tmp_path / "a.png"
    Image.fromarray(photographs[0][:24, :16]).save(path)
    ((_, image, probabilities),) = predict(model, [path], crop=1)
    np.testing.assert_allclose(image, photographs[0][:24, :16] / 127.5 - 1, atol=1e-5)
    expected = np.exp(np.array(model(image[None]))[0])
    np.testing.assert_allclose(probabilities, expected / expected.sum(), rtol=1e-4)


def test_photos_are_upright_if_the_model_says_so(tmp_path, photographs):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 8
    path = tmp_path / "a.png"
    Image.fromarray(photographs[0][:24, :16]).save(path, exif=tags)
    for upright in (False, True):
        preprocessing = Preprocessing((0, 0, 0), (1, 1, 1), upright)
        model = kd.DeiT((16, 24), 8, 12, 1, 3, num_classes=5, preprocessing=preprocessing)
        ((_, image, _),) = predict(model, [path], crop=1)
        view = evaluation_view(decode(path.read_bytes(), upright), (16, 24), 1, preprocessing)
        np.testing.assert_array_equal(image, view)
    turned = np.rot90(photographs[0][:24, :16]) / 255
    np.testing.assert_allclose(image, turned, atol=1e-6)
