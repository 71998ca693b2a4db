"""Datasets whose image size TensorFlow does not know: what a generator without shapes gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deit as kd

IMAGES = np.random.default_rng(0).normal(size=(8, 24, 16, 3)).astype("float32")
LABELS = np.eye(5, dtype="float32")[np.arange(8) % 5]
SIZES = (None, None, None, 3)

# Keras does not know how long a generator is, and cannot shuffle it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Your input ran out of data"),
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed"),
]


def dataset(shape, label_shape=(None, 5), images=IMAGES):
    return tf.data.Dataset.from_generator(
        lambda: iter([(images, LABELS)]),
        output_signature=(tf.TensorSpec(shape), tf.TensorSpec(label_shape)),
    )


@pytest.fixture
def compiled(tiny):
    # A teacher that has to know the size of its images.
    teacher = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(5)])
    teacher.build((None, 24, 16, 3))
    tiny.compile("sgd", kd.loss(), distillation=kd.Distillation(teacher))
    return tiny


@pytest.mark.slow
@pytest.mark.parametrize("shape", [SIZES, (None, 24, None, 3), (None, None, None, None), None])
def test_unknown_sizes_train_as_known_ones_do(compiled, shape):
    start = compiled.get_weights()
    results = []
    for known in (dataset((None, 24, 16, 3)), dataset(shape)):
        compiled.set_weights(start)
        history = compiled.fit(known, verbose=0, shuffle=False).history
        results.append(
            [*compiled.get_weights(), history["loss"], compiled.evaluate(known, verbose=0)]
        )
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_unknown_ranks_are_refused_in_one_line(compiled, method):
    message = "a dataset of labels of unknown shape: give from_generator an output_signature"
    with pytest.raises(kd.UserError, match=message) as error:
        getattr(compiled, method)(dataset(SIZES, None), verbose=0)
    assert "\n" not in str(error.value)

    convnet = kd.build("regnety_digits", num_classes=5)  # for images of any size
    convnet.compile("sgd", kd.loss())
    with pytest.raises(kd.UserError, match="a dataset of images of unknown shape"):
        getattr(convnet, method)(dataset(None), verbose=0)


def test_a_wrong_size_is_found_while_running(compiled):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"8,32,32,3.* expected shape"):
        compiled.fit(dataset(SIZES, images=np.zeros((8, 32, 32, 3), "float32")), verbose=0)


def test_features_of_an_unknown_size_are_refused_in_one_line(tiny):
    images = keras.Input((None, None, 3))
    message = r"images of unknown size: expected keras.Input\(\(24, 16, 3\)\)"
    with pytest.raises(kd.UserError, match=message) as error:
        tiny.head_features(images)
    assert "\n" not in str(error.value)
