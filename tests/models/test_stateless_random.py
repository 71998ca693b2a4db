import keras
import numpy as np
import tensorflow as tf

from keras_deit.models.stateless_random import uniform


def test_numbers_are_uniform_and_depend_on_seed_and_replica():
    numbers = np.array(uniform(100_000, (1, 2)))
    assert numbers.dtype == "float32"
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
    assert np.abs(counts / 5000 - 1).max() < 0.06

    for other in (uniform(100_000, (1, 3)), uniform(100_000, (2, 2)), uniform(100_000, (1, 2), 1)):
        assert abs(np.corrcoef(numbers, other)[0, 1]) < 0.02


def test_numbers_are_the_same_compiled():
    seed = keras.ops.convert_to_tensor([7, 3], "uint32")
    compiled = tf.function(lambda seed: uniform(1000, seed), jit_compile=True)
    np.testing.assert_array_equal(compiled(seed), uniform(1000, (7, 3)))
