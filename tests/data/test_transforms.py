import itertools

import cv2
import numpy as np
import pytest
from PIL import Image

import keras_deit as kd
from keras_deit.data import erasing, randaugment
from keras_deit.data.seeding import generator
from keras_deit.data.transforms import (
    evaluation_view,
    normalize,
    padded_crop,
    random_box,
    training_view,
)
from tests.conftest import assert_same_boxes


@pytest.mark.parametrize("size", [(375, 500), (60, 200)])
def test_random_boxes_are_torchvisions(size, golden):
    rng = generator(0, 0, 0)
    boxes = np.array([random_box(*size, rng) for _ in range(12_000)])
    assert_same_boxes(boxes, golden("boxes")[f"crops/{size[0]}x{size[1]}"])
    room = np.array(size) - boxes[:, 2:]
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] <= room).all()
    for axis in (0, 1):
        assert (boxes[:, axis] == room[:, axis])[room[:, axis] > 0].any()
    area, aspect = boxes[:, 2] * boxes[:, 3] / np.prod(size), boxes[:, 3] / boxes[:, 2]
    assert 0.078 < area.min() < 0.082
    large = boxes[:, 2] > 100
    if large.any():
        assert 0.97 < area.max() <= 1
        assert 0.745 < aspect[large].min() < 0.755
        assert 1.32 < aspect[large].max() < 1.345


def test_the_center_is_cropped_if_no_box_fits(golden):
    class Large:  # draws the image's whole area at the least and the greatest aspect, in turn
        numbers = itertools.cycle([[1, 0, 0.5, 0.5], [1, 1, 0.5, 0.5]])
        random = staticmethod(lambda _: np.array(next(Large.numbers)))

    for height, width, *box in golden("boxes")["center"].tolist():
        if not 0.74 < width / height < 1.34:
            assert list(random_box(height, width, Large)) == box
    assert random_box(50, 66, Large) == (0, 0, 50, 66)


def test_evaluation_is_timms(golden):
    truth = golden("evaluation")
    for i, crop in enumerate(truth["crops"].tolist()):
        expected = truth[f"view/{i}"]
        view = evaluation_view(truth[f"image/{i}"], expected.shape[:2], crop)
        difference = (view - normalize(expected)) * 255 * np.array([0.229, 0.224, 0.225])
        assert np.abs(difference).max() < 1.01
    np.testing.assert_allclose(view, truth["normalized"], atol=0.02)


@pytest.mark.parametrize("crop", [0, -1, 1.01, float("nan")])
def test_an_invalid_crop_is_an_error(crop):
    with pytest.raises(kd.UserError, match=r"from 0.05 to 1"):
        evaluation_view(np.zeros((9, 9, 3), np.uint8), (8, 8), crop)


def test_normalization_is_imagenets():
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(2, 16, 8, 3)
    expected = (image / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(normalize(image), expected, atol=1e-6)
    np.testing.assert_array_equal(normalize(image[0, ::-1, :5]), normalize(image)[0, ::-1, :5])
    assert normalize(image).dtype == np.float32


def test_padded_crops_are_uniform_shifts():
    image = np.arange(1, 76, dtype=np.uint8).reshape(5, 5, 3)
    rng = generator(0, 0, 0)
    counts = {}
    for _ in range(900):
        crop = padded_crop(image, 1, rng)
        center = tuple(np.argwhere((crop == image[2, 2]).all(axis=-1))[0])
        counts[center] = counts.get(center, 0) + 1
    assert set(counts) == set(itertools.product((1, 2, 3), repeat=2))
    assert min(counts.values()) > 60
    assert padded_crop(image, 0, rng) is image


def test_a_training_view_is_its_steps_in_order(photographs):
    """With the same random numbers, Pillow's crop and resizing and our operations give it too."""
    image = photographs[0]
    for index in range(12):
        view = training_view(image, (160, 144), generator(1, 2, 2, index))
        rng = generator(1, 2, 2, index)
        top, left, height, width = random_box(*image.shape[:2], rng)
        crop = Image.fromarray(image).crop((left, top, left + width, top + height))
        flipped = rng.random() < 0.5
        operations = randaugment.draw(rng)
        resized = np.asarray(crop.resize((144, 160), Image.Resampling.BICUBIC))
        resized = cv2.flip(resized, 1) if flipped else resized
        expected = erasing.erase(normalize(randaugment.apply(resized, operations)), 0.25, rng)
        assert view.shape == (160, 144, 3)
        assert view.dtype == np.float32
        if not {name for name, _ in operations} & {"Equalize", "AutoContrast", "Posterize"}:
            # Those amplify a difference of one gray level in a resized pixel.
            levels = np.abs(view - expected).mean() * 255 * 0.226
            assert levels < 3
        again = training_view(image, (160, 144), generator(1, 2, 2, index))
        np.testing.assert_array_equal(view, again)


def test_half_of_the_views_are_flipped(photographs, monkeypatch):
    monkeypatch.setattr(randaugment, "draw", lambda rng: [])
    image = np.zeros((32, 32, 3), np.uint8)
    image[:] = np.arange(32)[None, :, None] * 8  # brighter to the right
    count = 400
    views = [training_view(image, (16, 16), generator(0, 0, 2, i), erasing=0) for i in range(count)]
    flipped = sum(view[:, 0].mean() > view[:, -1].mean() for view in views)
    assert abs(flipped - count / 2) < 4 * np.sqrt(count / 4)
