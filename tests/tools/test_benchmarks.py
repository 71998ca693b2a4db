"""Benchmarks: their images and recipe, and that nothing of Pillow stays changed."""

import numpy as np
import pytest
from PIL import Image, ImageOps

import keras_deit as kd
from keras_deit.data.decode import decode
from keras_deit.tools import benchmarks


def test_pillow_posterizes_to_zero_bits_only_within_the_benchmark():
    image = Image.fromarray(np.full((2, 2), 255, np.uint8))
    posterize = ImageOps.posterize
    with benchmarks.posterize_to_zero_bits():
        assert np.array(ImageOps.posterize(image, 0)).max() == 128  # as with 1 bit
        assert np.array(ImageOps.posterize(image, 3)).max() == 224
    assert ImageOps.posterize is posterize

    with pytest.raises(TypeError), benchmarks.posterize_to_zero_bits():
        ImageOps.posterize(image, None)
    assert ImageOps.posterize is posterize


def test_photographs_are_a_dataset_of_the_published_augmentation(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "PHOTOGRAPHS", 8)
    paths = benchmarks.write_photographs(tmp_path)
    assert len(paths) == 8
    assert {decode(path.read_bytes()).shape for path in paths} == {(375, 500, 3)}

    recipe = benchmarks.published_augmentation(tmp_path)
    recipe = kd.override(recipe, ["batch_size=4", "mix_group=4"])
    assert (recipe.erasing, recipe.mixup, recipe.rand_augment) == (0.25, 0.8, True)
    batches = kd.data.train(recipe)
    assert batches.class_names == ("flower", "temple")
    images, _ = next(iter(batches))
    assert images.shape == (4, 224, 224, 3)


@pytest.mark.slow
def test_a_process_is_measured_by_seconds_and_memory():
    seconds, memory = benchmarks.measure("kd.build('deit_digits')")
    assert seconds > 0
    assert 100 < memory < 5000  # MiB: TensorFlow by itself takes hundreds
