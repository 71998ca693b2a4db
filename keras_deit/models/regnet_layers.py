"""The layers of a RegNetY, under the published parameter names."""

import keras
from keras import ops

from keras_deit.distribution import replicas
from keras_deit.models.keras_layers import Conv2D, Dense
from keras_deit.models.policies import build_layer


@keras.saving.register_keras_serializable("keras_deit")
class GroupedConv2D(keras.layers.Layer):
    """A 3x3 convolution over channel groups, without bias, zero-padded by one on every side.

    Each group is a separate plain convolution: TensorFlow has no grouped kernel for the CPU and
    its substitute is 20 to 50 times slower in training. The kernel has the layout of
    ``Conv2D(groups=...)``: (3, 3, group width, channels).

    Args:
        groups: int. A divisor of the input channels, of which there are as many as outputs.
        strides: int. Default 1.

    Example:
        >>> import numpy as np
        >>> from keras_deit.models.regnet_layers import GroupedConv2D
        >>> tuple(GroupedConv2D(groups=2, strides=2)(np.ones((1, 6, 6, 8))).shape)
        (1, 3, 3, 8)
    """

    def __init__(self, groups, strides=1, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups
        self.strides = strides
        self.pad = padding(self.dtype_policy)

    def build(self, input_shape):
        self.pad.build(input_shape)
        channels = input_shape[-1]
        self.kernel = self.add_weight(
            shape=(3, 3, channels // self.groups, channels),
            initializer=_he(self.groups),
            name="kernel",
        )

    def call(self, x):
        x = self.pad(x)
        inputs = ops.split(x, self.groups, axis=-1)
        kernels = ops.split(ops.cast(self.kernel, x.dtype), self.groups, axis=-1)

        outputs = [
            ops.conv(group, kernel, strides=self.strides, data_format="channels_last")
            for group, kernel in zip(inputs, kernels, strict=True)
        ]
        return ops.concatenate(outputs, axis=-1)

    def compute_output_shape(self, input_shape):
        return _strided(input_shape, self.strides, input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "groups": self.groups, "strides": self.strides}


@keras.saving.register_keras_serializable("keras_deit")
class YBlock(keras.layers.Layer):
    """A RegNetY bottleneck: 1x1, grouped 3x3, squeeze-excitation, 1x1, around a shortcut.

    (batch, height, width, inputs) to (batch, height / strides, width / strides, channels), sides
    rounded up.

    Args:
        channels: int. Output channels.
        group_width: int. Channels of a group of the 3x3 convolution.
        strides: int. Strides of the 3x3 convolution and of the projected shortcut.
        se_ratio: float. Width of the squeeze-excitation over the block's input channels.

    Example:
        >>> import numpy as np
        >>> from keras_deit.models.regnet_layers import YBlock
        >>> block = YBlock(channels=16, group_width=8, strides=2, se_ratio=0.25)
        >>> tuple(block(np.ones((1, 6, 6, 8))).shape)
        (1, 3, 3, 16)
    """

    def __init__(self, channels, group_width, strides, se_ratio, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.group_width = group_width
        self.strides = strides
        self.se_ratio = se_ratio

    def build(self, input_shape):
        channels = self.channels
        inputs = input_shape[-1]
        groups = channels // self.group_width

        policy = self.dtype_policy
        self.conv1 = conv(channels, 1, 1, "conv1.conv", policy)
        self.bn1 = batch_norm("conv1.bn", policy)
        self.conv2 = GroupedConv2D(groups, self.strides, name="conv2.conv", dtype=policy)
        self.bn2 = batch_norm("conv2.bn", policy)
        squeezed = round(self.se_ratio * inputs)
        self.squeeze = Dense(squeezed, "relu", name="se.fc1", dtype=policy)
        self.excite = Dense(channels, "sigmoid", name="se.fc2", dtype=policy)
        self.conv3 = conv(channels, 1, 1, "conv3.conv", policy)
        # The block starts as its shortcut.
        self.bn3 = batch_norm("conv3.bn", policy, gamma="zeros")

        # The second convolution has the strides.
        at_input_size = (*input_shape[:-1], channels)
        at_output_size = (None, None, None, channels)
        build_layer(self, self.conv1, input_shape)
        build_layer(self, self.bn1, at_input_size)
        build_layer(self, self.conv2, at_input_size)
        build_layer(self, self.squeeze, (None, channels))
        build_layer(self, self.excite, (None, self.squeeze.units))
        for layer in (self.bn2, self.conv3, self.bn3):
            build_layer(self, layer, at_output_size)

        self.projects = self.strides != 1 or inputs != channels
        if self.projects:
            self.shortcut = conv(channels, 1, self.strides, "downsample.conv", policy)
            self.shortcut_bn = batch_norm("downsample.bn", policy)
            build_layer(self, self.shortcut, input_shape)
            build_layer(self, self.shortcut_bn, at_output_size)

    def call(self, x, training=False):
        y = ops.relu(self.bn1(self.conv1(x), training=training))
        y = ops.relu(self.bn2(self.conv2(y), training=training))

        # Casts matter if layers have different dtype policies.
        gate = ops.cast(self.excite(self.squeeze(ops.mean(y, axis=(1, 2)))), y.dtype)
        y = y * ops.expand_dims(ops.expand_dims(gate, 1), 1)

        y = self.bn3(self.conv3(y), training=training)
        if self.projects:
            x = self.shortcut_bn(self.shortcut(x), training=training)
        return ops.relu(ops.cast(x, self.compute_dtype) + ops.cast(y, self.compute_dtype))

    def compute_output_shape(self, input_shape):
        return _strided(input_shape, self.strides, self.channels)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "group_width": self.group_width,
            "strides": self.strides,
            "se_ratio": self.se_ratio,
        }


def _he(groups=1):
    """He initialization by the outputs of a group (timm ``regnet.py``)."""
    return keras.initializers.VarianceScaling(2 * groups, "fan_out", "untruncated_normal")


def _strided(shape, strides, channels):
    """The output shape of a convolution that is padded to its input's size, rounded up."""
    batch, *sides, _ = shape
    sides = [None if side is None else -(-side // strides) for side in sides]
    return batch, *sides, channels


def padding(dtype):
    # With a fixed name: Keras would number it, and policies are saved by name.
    return keras.layers.ZeroPadding2D(1, data_format="channels_last", name="pad", dtype=dtype)


def conv(channels, size, strides, name, dtype):
    return Conv2D(
        channels,
        size,
        strides=strides,
        use_bias=False,
        data_format="channels_last",
        kernel_initializer=_he(),
        name=name,
        dtype=dtype,
    )


def batch_norm(name, dtype, gamma="ones"):
    """PyTorch's defaults: epsilon 1e-5, and a tenth of the new statistics per step. Replicas
    synchronize, so that they have the statistics of the batch, as one device has."""
    return keras.layers.BatchNormalization(
        epsilon=1e-5,
        momentum=0.9,
        gamma_initializer=gamma,
        synchronized=replicas.count() > 1,
        name=name,
        dtype=dtype,
    )
