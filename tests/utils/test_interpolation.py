"""Keys' cubic kernel, by the properties that define it."""

import numpy as np
import pytest

from keras_deit.utils.interpolation import keys_cubic

PARAMETERS = [-0.5, -0.75, -1.0]
SHIFTS = np.linspace(0, 1, 21)[:, None]
TAPS = np.arange(-2, 4)[None]


@pytest.mark.parametrize("a", PARAMETERS)
def test_the_kernel_interpolates_within_its_support(a):
    np.testing.assert_allclose(keys_cubic(np.array([0.0, 1, 2]), a), [1, 0, 0], atol=1e-12)
    assert not keys_cubic(np.array([2.0, 2.5, -3, 100]), a).any()

    x = np.linspace(0, 3, 60).reshape(3, 20)
    np.testing.assert_array_equal(keys_cubic(-x, a), keys_cubic(x, a))
    assert keys_cubic(x, a).shape == x.shape


@pytest.mark.parametrize("a", PARAMETERS)
def test_weights_add_up_to_one(a):
    np.testing.assert_allclose(keys_cubic(TAPS - SHIFTS, a).sum(1), 1, atol=1e-12)


@pytest.mark.parametrize("a", PARAMETERS)
def test_the_slope_at_one_pixel_is_a_from_both_sides(a):
    step = 1e-6
    values = keys_cubic(np.array([1 - step, 1.0, 1 + step]), a)
    np.testing.assert_allclose(np.diff(values) / step, a, atol=1e-4)


def test_half_reproduces_parabolas():
    """Keys (1981): of all a, only -0.5 has an error of third order."""
    weights = keys_cubic(TAPS - SHIFTS, -0.5)
    parabola = 3 * TAPS**2 - TAPS + 2
    expected = (3 * SHIFTS**2 - SHIFTS + 2)[:, 0]
    np.testing.assert_allclose((weights * parabola).sum(1), expected, atol=1e-12)


def test_known_values_halfway_between_pixels():
    halves = np.array([0.5, 1.5])
    np.testing.assert_allclose(keys_cubic(halves, -0.5), [0.5625, -0.0625], atol=1e-12)
    np.testing.assert_allclose(keys_cubic(halves, -0.75), [0.59375, -0.09375], atol=1e-12)
