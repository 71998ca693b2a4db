"""``operations.py`` in TensorFlow, for training.

What lies between two matrix products is compiled by XLA, with gradients that need nothing but an
input or an output. The matrix products themselves are left to TensorFlow, whose library for them,
oneDNN, XLA does not have on a CPU.
"""

import functools
import math

import tensorflow as tf

compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


def dense(x, kernel, bias, training):
    """``operations.dense``: on two dimensions, for which TensorFlow fuses product and bias."""
    compute = _dense if training else _plain_dense
    if len(x.shape) == 2:
        return compute(x, kernel, bias)

    rows = compute(tf.reshape(x, (-1, x.shape[-1])), kernel, bias)
    # One of these, the batch, may be unknown.
    sizes = [-1 if size is None else size for size in x.shape[:-1]]
    return tf.reshape(rows, (*sizes, kernel.shape[-1]))


def _plain_dense(x, kernel, bias):
    return tf.nn.bias_add(tf.matmul(x, kernel), bias)


@tf.custom_gradient
def _dense(x, kernel, bias):
    def gradients(upstream):
        # A matrix product adds the rows up three times as fast as TensorFlow's own gradient.
        ones = tf.ones((1, tf.shape(upstream)[0]), upstream.dtype)
        return (
            tf.matmul(upstream, kernel, transpose_b=True),
            tf.matmul(x, upstream, transpose_a=True),
            tf.matmul(ones, upstream)[0],
        )

    return _plain_dense(x, kernel, bias), gradients


@tf.custom_gradient
def gelu(x):
    """``operations.gelu``, whose gradient needs its input."""
    return _gelu(x), lambda upstream: _gelu_gradient(x, upstream)


@compiled
def _gelu(x):
    value = tf.cast(x, tf.float32)
    return tf.cast(value * _normal_distribution(value), x.dtype)


@compiled
def _gelu_gradient(x, upstream):
    value = tf.cast(x, tf.float32)
    density = tf.exp(-0.5 * tf.square(value)) / math.sqrt(2 * math.pi)
    slope = _normal_distribution(value) + value * density
    return tf.cast(tf.cast(upstream, tf.float32) * slope, x.dtype)


def _normal_distribution(x):
    # PyTorch's form. With erfc, as in tf.nn.gelu, XLA takes three times as long.
    return 0.5 * (1 + tf.math.erf(x * math.sqrt(0.5)))


def attention_weights(scores, scale):
    """``operations.attention_weights``, whose gradient needs its output."""

    @tf.custom_gradient
    def softmax(scores):
        weights = _softmax(scores, scale)
        return weights, lambda upstream: _softmax_gradient(weights, scale, upstream)

    return softmax(scores)


@compiled
def _softmax(scores, scale):
    value = tf.cast(scores, tf.float32) * scale
    exponentials = tf.exp(value - tf.reduce_max(value, axis=-1, keepdims=True))
    weights = exponentials / tf.reduce_sum(exponentials, axis=-1, keepdims=True)
    return tf.cast(weights, scores.dtype)


@compiled
def _softmax_gradient(weights, scale, upstream):
    weight = tf.cast(weights, tf.float32)
    slope = tf.cast(upstream, tf.float32)
    mean = tf.reduce_sum(weight * slope, axis=-1, keepdims=True)
    return tf.cast(weight * (slope - mean) * scale, weights.dtype)


def layer_norm(x, scale, shift, epsilon):
    """``operations.layer_norm``, whose gradient needs its input."""

    @tf.custom_gradient
    def normalize(x, scale, shift):
        def gradients(upstream):
            return _layer_norm_gradients(x, scale, upstream, epsilon)

        return _layer_norm(x, scale, shift, epsilon), gradients

    # Of a variable TensorFlow would want the gradient in another way.
    return normalize(x, tf.convert_to_tensor(scale), tf.convert_to_tensor(shift))


@compiled
def _layer_norm(x, scale, shift, epsilon):
    standardized, _ = _standardize(x, epsilon)
    return tf.cast(standardized * scale + shift, x.dtype)


@compiled
def _layer_norm_gradients(x, scale, upstream, epsilon):
    standardized, factor = _standardize(x, epsilon)
    upstream = tf.cast(upstream, tf.float32)
    all_but_last = tuple(range(len(x.shape) - 1))

    slope = upstream * scale
    mean = tf.reduce_mean(slope, axis=-1, keepdims=True)
    projection = tf.reduce_mean(slope * standardized, axis=-1, keepdims=True)
    gradient = factor * (slope - mean - standardized * projection)

    return (
        tf.cast(gradient, x.dtype),
        tf.reduce_sum(upstream * standardized, axis=all_but_last),
        tf.reduce_sum(upstream, axis=all_but_last),
    )


def _standardize(x, epsilon):
    """``x`` with mean zero and variance one over the last axis, and the factor that made it so."""
    value = tf.cast(x, tf.float32)
    centered = value - tf.reduce_mean(value, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centered), axis=-1, keepdims=True)
    factor = tf.math.rsqrt(variance + epsilon)
    return centered * factor, factor
