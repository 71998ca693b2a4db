"""Uniform random numbers as a pure function of seed and replica, the same on every backend."""

from keras import ops

# The shift and the multiplier of each round of MurmurHash3's finalizer, fmix32 (A. Appleby).
ROUNDS = ((16, 0x85EBCA6B), (13, 0xC2B2AE35))


def uniform(count, seed, replica=0):
    """Uniform random numbers by the finalizer of MurmurHash3.

    They are the same compiled or not. TensorFlow's own differ under XLA, whichever algorithm is
    asked for, so that a compiled run would not repeat an eager one.

    Args:
        count: int, or scalar int tensor. How many.
        seed: a pair of integers, or an integer tensor (2,).
        replica: int, or scalar int tensor. The device's number; each draws different numbers.

    Returns:
        A float32 tensor (count,), in [0, 1).

    Example:
        >>> from keras_deit.models.stateless_random import uniform
        >>> [round(float(x), 3) for x in uniform(3, seed=(7, 0))]
        [0.404, 0.978, 0.478]
    """
    x = _word(ops.arange(count))
    for key in (replica, seed[0], seed[1]):
        x = ops.bitwise_xor(x, _word(key))
        for shift, factor in ROUNDS:
            x = ops.multiply(ops.bitwise_xor(x, ops.right_shift(x, _word(shift))), _word(factor))
            # On PyTorch, Keras' uint32 is an int64.
            x = ops.bitwise_and(x, _word(0xFFFFFFFF))
        x = ops.bitwise_xor(x, ops.right_shift(x, _word(16)))

    # The upper 24 bits: as many as a float32 holds exactly.
    return ops.cast(ops.right_shift(x, _word(8)), "float32") / 2**24


def _word(value):
    return ops.cast(value, "uint32")
