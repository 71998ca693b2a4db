import numpy as np
import pytest
from PIL import Image

from keras_deit.data import resizing
from keras_deit.data.resizing import resize, resize_fast, resize_part


def pillow(image, size):
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


def test_resizing_is_pillows(photographs):
    for size in ((40, 97), (500, 700), (427, 640)):
        np.testing.assert_array_equal(resize(photographs[0], size), pillow(photographs[0], size))


def test_a_part_is_cut_from_the_resized_image(photographs, monkeypatch):
    """Exactly if the result is small; otherwise only the part is made, to a level of rounding."""
    rng = np.random.default_rng(5)
    for _ in range(60):
        image = photographs[0][: rng.integers(1, 427), : rng.integers(1, 640)]
        size = rng.integers(1, 900, 2).tolist()
        height, width = (rng.integers(1, side + 1) for side in size)
        top, left = rng.integers(0, [size[0] - height + 1, size[1] - width + 1])
        part = (top, left, height, width)
        expected = pillow(image, tuple(size))[top : top + height, left : left + width]
        np.testing.assert_array_equal(resize_part(image, size, part), expected)

        with monkeypatch.context() as patch:
            patch.setattr(resizing, "MAX_RESIZED", 0)
            part = resize_part(image, size, part)
        difference = np.abs(part.astype(int) - expected)
        assert difference.max() <= 5
        assert (difference > 1).mean() < 1e-3


# The shortest to the longest side that a crop of an ImageNet image is resized to 224 from, in
# steps, both ways and in both of the extreme aspects.
@pytest.mark.parametrize("aspect", [3 / 4, 1, 4 / 3])
@pytest.mark.parametrize("scale", [0.2, 0.5, 0.8, 0.95, 1.0, 1.05, 1.15, 1.25, 1.35, 1.5, 1.64])
def test_fast_resizing_is_pillows_to_a_gray_level(scale, aspect, photographs):
    errors = []
    for photograph in photographs:
        # As sharp as a photograph of 12 megapixels that was reduced to 500 x 334.
        image = pillow(photograph, (375, 562))
        height, width = (
            min(375, round(224 * scale * side)) for side in (aspect**-0.5, aspect**0.5)
        )
        for top, left in ((0, 0), (375 - height, 562 - width), ((375 - height) // 2, 100)):
            crop = image[top : top + height, left : left + width]
            view = resize_fast(crop, (224, 224))
            assert view.shape == (224, 224, 3)
            error = np.abs(view.astype(int) - pillow(crop, (224, 224)))
            assert error.mean() <= 1
            assert np.quantile(error, 0.99) <= 8
            errors.append(error.mean())
    assert np.mean(errors) < 0.5


@pytest.mark.parametrize("size", [(32, 32), (100, 60), (8, 500), (427, 640), (60, 80), (1, 1)])
def test_fast_resizing_at_other_sizes(size, photographs):
    for image in photographs:
        error = np.abs(resize_fast(image, size).astype(int) - pillow(image, size))
        assert error.mean() <= 1
        assert np.quantile(error, 0.99) <= 8


def test_a_gray_image_keeps_its_level():
    for value in (0, 1, 127, 128, 254, 255):
        for size in ((50, 70), (300, 200), (90, 30)):
            image = np.full((100, 130, 3), value, np.uint8)
            assert (resize_fast(image, size) == value).all()
