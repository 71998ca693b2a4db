"""The sampler of random boxes. tests/data/test_transforms.py and test_erasing.py compare what it
draws with torchvision and timm."""

import dataclasses

import numpy as np

from keras_deit.data.boxes import TRIES, BoxSampler

WIDE = BoxSampler((0.25, 0.25), (4, 4), "width/height", smallest=1, margin=0)


class Fixed:
    """A generator whose every number is the same, and which counts its draws."""

    def __init__(self, number):
        self.number = number
        self.draws = 0

    def random(self, count):
        self.draws += 1
        return np.full(count, self.number)


def test_aspect_ratio_divides_the_named_sides():
    assert WIDE.sample(40, 40, Fixed(0)) == (0, 0, 10, 40)
    tall = dataclasses.replace(WIDE, aspect_is="height/width")
    assert tall.sample(40, 40, Fixed(0)) == (0, 0, 40, 10)


def test_positions_reach_both_borders():
    last = np.nextafter(1, 0)
    square = dataclasses.replace(WIDE, aspect=(1, 1))
    assert square.sample(40, 40, Fixed(0)) == (0, 0, 20, 20)
    assert square.sample(40, 40, Fixed(last)) == (20, 20, 20, 20)


def test_boxes_outside_the_limits_are_drawn_again():
    for sampler in (
        dataclasses.replace(WIDE, margin=1),  # the box would be as wide as the image
        dataclasses.replace(WIDE, smallest=11),  # 10 pixels high
    ):
        rng = Fixed(0)
        assert sampler.sample(40, 40, rng) is None
        assert rng.draws == TRIES


def test_area_and_aspect_ratio_span_their_ranges():
    sampler = BoxSampler((0.04, 0.25), (1, 4), "width/height", smallest=1, margin=0)
    assert sampler.sample(100, 100, Fixed(0))[2:] == (20, 20)
    assert sampler.sample(100, 100, Fixed(np.nextafter(1, 0)))[2:] == (25, 100)
    rng = Fixed(0.5)  # the mean area, and the geometric mean of the aspect ratios
    height, width = sampler.sample(100, 100, rng)[2:]
    assert (height, width) == (round(np.sqrt(1450 / 2)), round(np.sqrt(1450 * 2)))
