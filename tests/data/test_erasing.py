import numpy as np

from keras_deit.data.erasing import BOXES, erase
from keras_deit.data.seeding import generator
from tests.conftest import assert_same_boxes


def test_boxes_are_drawn_as_timm_draws_them(golden):
    rng = generator(0, 0, 0)
    boxes = np.array([BOXES.sample(60, 80, rng) or (0, 0, 0, 0) for _ in range(12_000)])
    assert_same_boxes(boxes, golden("boxes")["erased"])
    height, width = boxes[:, 2], boxes[:, 3]
    area, aspect = height * width / 4800, height / width
    assert 0.015 < area.min() < 0.021
    assert 0.32 < area.max() < 0.345
    large = height * width > 900
    assert 0.27 < aspect[large].min() < 0.31
    assert 2.9 < aspect[large].max() < 3.5
    assert ((boxes[:, 0] + height <= 60) & (boxes[:, 1] + width <= 80)).all()
    assert ((height < 60) & (width < 80)).all()
    assert (boxes[:, :2] + boxes[:, 2:]).max(axis=0).tolist() == [60, 80]


def test_nothing_is_erased_if_no_box_fits():
    image = np.zeros((4, 400, 3), np.float32)
    unchanged = [not erase(image.copy(), 1, generator(0, 0, 2, i)).any() for i in range(300)]
    assert 0 < sum(unchanged) < 300


def test_a_quarter_of_images_get_normal_noise_in_one_box():
    image = np.full((40, 50, 3), 9, np.float32)
    count = 0
    noise = []
    for index in range(2000):
        view = image.copy()
        assert erase(view, 0.25, generator(0, 0, 2, index)) is view
        count += (view != 9).any()
        if (view != 9).any():
            erased = (view != 9).all(axis=-1)
            rows, columns = np.flatnonzero(erased.any(axis=1)), np.flatnonzero(erased.any(axis=0))
            box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            assert erased[box].all()
            assert erased.sum() == erased[box].size
            noise.append(view[box].reshape(-1, 3))

    # Binomial, to four standard deviations.
    assert abs(count - 500) < 4 * np.sqrt(2000 * 0.25 * 0.75)
    noise = np.concatenate(noise)
    assert len(noise) > 100_000
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(3), atol=0.02)
    assert abs((np.abs(noise) < 1).mean() - 0.6827) < 0.01
    assert (erase(image, 0, generator(0, 0, 0)) == 9).all()
