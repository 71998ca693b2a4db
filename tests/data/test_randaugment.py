import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from keras_deit.data.randaugment import FILL, OPERATIONS, apply, draw
from keras_deit.data.seeding import generator

LEVELS = (1.3, 6.0, 8.4, 9.0, 9.7)
INTERPOLATED = {"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"}
SIGNED = INTERPOLATED | {"Color", "Contrast", "Brightness", "Sharpness"}


def affine(matrix):
    """Pillow's Image.transform, by a matrix from the parameter and the image's (width, height)."""
    options = {"resample": Image.Resampling.BICUBIC, "fillcolor": FILL}
    return lambda image, parameter: image.transform(
        image.size, Image.Transform.AFFINE, matrix(parameter, *image.size), **options
    )


PILLOW = {
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Invert": lambda image, _: ImageOps.invert(image),
    "Rotate": lambda image, degrees: image.rotate(
        degrees, Image.Resampling.BICUBIC, fillcolor=FILL
    ),
    "Posterize": ImageOps.posterize,
    "Solarize": ImageOps.solarize,
    "SolarizeAdd": lambda image, added: image.point(
        [value + added if value < 128 else value for value in range(256)] * 3
    ),
    "Color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "Contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "Brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "Sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "ShearX": affine(lambda factor, *_: (1, factor, 0, 0, 1, 0)),
    "ShearY": affine(lambda factor, *_: (1, 0, 0, factor, 1, 0)),
    "TranslateX": affine(lambda fraction, width, _: (1, 0, fraction * width, 0, 1, 0)),
    "TranslateY": affine(lambda fraction, _, height: (1, 0, 0, 0, 1, fraction * height)),
}


@pytest.fixture(scope="module")
def images(photographs):
    """Photographs, square and not, dim, odd in size, tiny, noise, and one of a single color."""
    roof, flower = (image[100:324, 200:424] for image in photographs)
    noise = np.random.default_rng(0).integers(0, 256, (31, 40, 3), dtype=np.uint8)
    flat = np.full((9, 7, 3), (3, 200, 90), np.uint8)
    return [roof, flower[:90, :151], roof[:101] // 3 + 40, noise, flat, noise[:2, :1], noise[:1]]


def difference(image, other):
    assert image.dtype == np.uint8
    assert image.shape == other.shape
    return np.abs(image.astype(int) - other)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_pillows(name, images):
    parameter, operation = OPERATIONS[name]
    for level in LEVELS:
        for sign in (1, -1):
            value = parameter(level, sign)
            for image in images:
                before = image.copy()
                expected = np.asarray(PILLOW[name](Image.fromarray(image), value))
                error = difference(operation(image, value), expected)
                assert error.max() <= 1
                assert error.mean() <= 0.4
                np.testing.assert_array_equal(image, before)


def test_posterizing_all_bits_away_leaves_black(images):
    # As Pillow did when DeiT was trained; Pillow 13 refuses the 0 bits of level 10.
    parameter, operation = OPERATIONS["Posterize"]
    assert parameter(10, 1) == 0
    assert not operation(images[0], 0).any()


def test_operations_and_parameters_are_timms(golden):
    truth = golden("randaugment")
    names = [str(name) for name in truth["names"]]
    ours = [name.removesuffix("Increasing").removesuffix("Rel") for name in names]
    assert ours == list(OPERATIONS)
    for timms, name in zip(names, ours, strict=True):
        parameter, operation = OPERATIONS[name]
        views = iter(truth[f"views/{timms}"])
        for sign, expected in zip((1, -1), truth[f"parameters/{timms}"], strict=True):
            values = [parameter(level, sign) for level in truth["levels"].tolist()]
            np.testing.assert_allclose(np.array(values, float), expected, rtol=1e-12)
            for level in (2.5, 9.4):
                view = operation(truth["image"], parameter(level, sign))
                assert difference(view, next(views)).max() <= 1, (name, level, sign)


def test_draws_follow_the_published_policy():
    count = 15_000
    drawn = [draw(generator(0, 0, 2, index)) for index in range(count)]
    # Each of two is applied with probability .5: binomial, to 4 standard deviations.
    numbers = np.bincount([len(operations) for operations in drawn], minlength=3) / count
    np.testing.assert_allclose(numbers, [0.25, 0.5, 0.25], atol=4 * np.sqrt(0.25 / count))
    by_name = {name: [] for name in OPERATIONS}
    for name, value in (operation for operations in drawn for operation in operations):
        by_name[name].append(value)
    for name, values in by_name.items():
        assert abs(len(values) - count / 15) < 4 * np.sqrt(count / 15), name
    pairs = [operations for operations in drawn if len(operations) == 2]
    same = np.mean([first == second for (first, _), (second, _) in pairs])
    assert abs(same - 1 / 15) < 4 * np.sqrt(1 / 15 / len(pairs))  # with replacement
    # Levels are normal(9, .5), at most 10, and their sign is even, whatever the operation.
    tops = {"Rotate": 30, "ShearX": 0.3, "ShearY": 0.3, "TranslateX": 0.45, "TranslateY": 0.45}
    for name in SIGNED:
        levels = np.array(by_name[name])
        levels = levels / tops[name] * 10 if name in tops else (levels - 1) / 0.09
        assert abs(np.mean(levels > 0) - 0.5) < 4 * np.sqrt(0.25 / len(levels)), name
        levels = np.abs(levels)
        assert levels.max() <= 10 + 1e-9
        assert abs(np.median(levels) - 9) < 4 * 1.25 * 0.5 / np.sqrt(len(levels)), name
        assert abs(np.quantile(levels, 0.1587) - 8.5) < 0.1, name
        assert abs(np.mean(levels > 9.999) - 0.02275) < 4 * np.sqrt(0.0225 / len(levels)), name


def test_the_two_levels_and_signs_of_an_image_are_independent():
    drawn = (draw(generator(0, 1, 2, index)) for index in range(40_000))
    pairs = [
        values
        for names, values in (zip(*two, strict=True) for two in drawn if len(two) == 2)
        if set(names) <= {"ShearX", "ShearY"}
    ]
    first, second = np.array(pairs).T
    assert len(pairs) > 100
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(pairs))
    assert abs(np.corrcoef(np.abs(first), np.abs(second))[0, 1]) < 4 / np.sqrt(len(pairs))


def test_operations_are_applied_in_turn(images):
    image = images[1]
    once = apply(image, [("Invert", None), ("Solarize", 100)])
    other = apply(image, [("Solarize", 100), ("Invert", None)])
    expected = ImageOps.solarize(ImageOps.invert(Image.fromarray(image)), 100)
    np.testing.assert_array_equal(once, np.asarray(expected))
    assert (once != other).any()
    assert apply(image, []) is image


def test_every_draw_takes_the_same_numbers():
    generators = [generator(0, 0, 2, index) for index in range(50)]
    assert {len(draw(rng)) for rng in generators} == {0, 1, 2}
    counters = {rng.bit_generator.state["state"]["counter"][0] for rng in generators}
    assert len(counters) <= 2  # the normal distribution tries again, once in a while
