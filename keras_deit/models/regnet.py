"""RegNetY, the convnet family of the paper's teacher."""

import keras
from keras import ops

from keras_deit.configs.variants import VARIANTS
from keras_deit.distribution import replicas
from keras_deit.models.base import ImageClassifier
from keras_deit.models.keras_layers import Conv2D, Dense
from keras_deit.models.policies import build_layer
from keras_deit.utils.errors import UserError
from keras_deit.utils.validation import positive_integers


@keras.saving.register_keras_serializable("keras_deit")
class GroupedConv2D(keras.layers.Layer):
    """A 3x3 convolution over channel groups, without bias, zero-padded by one on every side.

    Each group is a plain convolution of its own: TensorFlow has no grouped kernel for the CPU and
    its substitute is 20 to 50 times slower in training. The kernel has the layout of
    ``Conv2D(groups=...)``: (3, 3, group width, channels).

    Args:
        groups: int. A divisor of the input channels, of which there are as many as outputs.
        strides: int. Default 1.

    Example:
        >>> import numpy as np
        >>> from keras_deit.models.regnet import GroupedConv2D
        >>> tuple(GroupedConv2D(groups=2, strides=2)(np.ones((1, 6, 6, 8))).shape)
        (1, 3, 3, 8)
    """

    def __init__(self, groups, strides=1, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups
        self.strides = strides
        self.pad = _padding(self.dtype_policy)

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
        >>> from keras_deit.models.regnet import YBlock
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
        self.conv1 = _conv(channels, 1, 1, "conv1.conv", policy)
        self.bn1 = _batch_norm("conv1.bn", policy)
        self.conv2 = GroupedConv2D(groups, self.strides, name="conv2.conv", dtype=policy)
        self.bn2 = _batch_norm("conv2.bn", policy)
        squeezed = round(self.se_ratio * inputs)
        self.squeeze = Dense(squeezed, "relu", name="se.fc1", dtype=policy)
        self.excite = Dense(channels, "sigmoid", name="se.fc2", dtype=policy)
        self.conv3 = _conv(channels, 1, 1, "conv3.conv", policy)
        # The block starts as its shortcut.
        self.bn3 = _batch_norm("conv3.bn", policy, gamma="zeros")

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
            self.shortcut = _conv(channels, 1, self.strides, "downsample.conv", policy)
            self.shortcut_bn = _batch_norm("downsample.bn", policy)
            build_layer(self, self.shortcut, input_shape)
            build_layer(self, self.shortcut_bn, at_output_size)

    def call(self, x, training=False):
        y = ops.relu(self.bn1(self.conv1(x), training=training))
        y = ops.relu(self.bn2(self.conv2(y), training=training))

        # Casts matter if layers have dtype policies of their own.
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


@keras.saving.register_keras_serializable("keras_deit")
class RegNetY(ImageClassifier):
    """RegNetY (Radosavovic et al., 2020, arXiv 2003.13678) for images of any size.

    Calling it gives logits, float32 (batch, num_classes), of images float32 (batch, height, width,
    3), normalized by ImageNet's mean and standard deviation.

    Args:
        stem: int. Channels of the first 3x3 convolution, which has stride 2.
        depths: sequence of int. Blocks of each stage; every stage's first block has stride 2.
        widths: sequence of int. Channels of each stage, multiples of ``group_width``.
        group_width: int. Channels of a group of the 3x3 convolutions.
        se_ratio: float. Width of the squeeze-excitations over their block's input channels.
            Default 0.25.
        num_classes: int. Outputs. Default 1000.
        class_names: list or tuple of str, or None. Class names in output order. Default None.
        **kwargs: ``name``, ``dtype`` and ``trainable``, as for ``ImageClassifier``.

    Raises:
        UserError: widths, depths and group width do not fit together.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> model = kd.RegNetY(8, depths=(1, 1), widths=(8, 16), group_width=8, num_classes=5)
        >>> tuple(model(np.zeros((2, 24, 16, 3), "float32")).shape)
        (2, 5)
        >>> len(model.logits(np.zeros((2, 16, 16, 3), "float32")))  # it has one head
        1
    """

    block_suffix = "conv2.conv.weight"

    def __init__(
        self,
        stem,
        depths,
        widths,
        group_width,
        se_ratio=0.25,
        num_classes=1000,
        class_names=None,
        **kwargs,
    ):
        super().__init__(num_classes, class_names, **kwargs)

        positive_integers(stem=stem, group_width=group_width)
        self.stem_width = stem
        self.depths = tuple(depths)
        self.widths = tuple(widths)
        self.group_width = group_width
        self.se_ratio = se_ratio

        if len(self.depths) != len(self.widths) or any(w % group_width for w in self.widths):
            raise UserError(
                f"widths {self.widths} with depths {self.depths}: expected one width per depth,"
                f" each a multiple of the group width {group_width}"
            )

        policy = self.dtype_policy
        self.pad = _padding(policy)
        self.stem = _conv(stem, 3, 2, "stem.conv", policy)
        self.stem_bn = _batch_norm("stem.bn", policy)

        stages = zip(self.depths, self.widths, strict=True)
        self.blocks = [
            YBlock(
                width,
                group_width,
                strides=2 if block == 1 else 1,
                se_ratio=se_ratio,
                name=f"s{stage}.b{block}",
                dtype=policy,
            )
            for stage, (depth, width) in enumerate(stages, 1)
            for block in range(1, depth + 1)
        ]

        normal = keras.initializers.RandomNormal(stddev=0.01)
        self.head = Dense(self.num_classes, kernel_initializer=normal, name="head.fc", dtype=policy)
        self.build((None, None, None, 3))

    def build(self, input_shape):
        if self.built:
            return

        build_layer(self, self.pad, input_shape)
        build_layer(self, self.stem, input_shape)
        shape = (None, None, None, self.stem_width)
        build_layer(self, self.stem_bn, shape)
        for block in self.blocks:
            build_layer(self, block, shape)
            shape = (None, None, None, block.channels)

        build_layer(self, self.head, (None, self.widths[-1]))
        self.built = True

    def call(self, images, training=False):
        return ops.cast(self.head(self.features(images, training=training)), "float32")

    def logits(self, images, training=False):
        return [self(images, training=training)]

    def features(self, images, training=False):
        """The mean of the last stage over all positions, (batch, widths[-1])."""
        x = ops.relu(self.stem_bn(self.stem(self.pad(images)), training=training))
        for block in self.blocks:
            x = block(x, training=training)
        return ops.mean(x, axis=(1, 2))

    @property
    def fields(self):
        return {
            "stem": self.stem_width,
            "depths": list(self.depths),
            "widths": list(self.widths),
            "group_width": self.group_width,
            "se_ratio": self.se_ratio,
            "num_classes": self.num_classes,
            "class_names": self.class_names and list(self.class_names),
        }

    def timm_config(self):
        # timm's RegNets take no shape as arguments: only the published one has a name there.
        row = VARIANTS["regnety_160"]
        shape = (self.stem_width, self.depths, self.widths, self.group_width, self.se_ratio)
        if shape != (row.stem, row.depths, row.widths, row.group_width, 0.25):
            return super().timm_config()
        return "regnety_160", {}

    @classmethod
    def parameter_shapes(cls, fields):
        widths = fields["widths"]
        shapes = {
            "stem.conv.weight": (fields["stem"], 3, 3, 3),
            "head.fc.weight": (fields["num_classes"], widths[-1]),
        }

        inputs = (fields["stem"], *widths[:-1])
        for stage, (width, before) in enumerate(zip(widths, inputs, strict=True), 1):
            shapes[f"s{stage}.b1.conv1.conv.weight"] = (width, before, 1, 1)
        return shapes

    @classmethod
    def block_count(cls, fields):
        return sum(fields["depths"])


def _he(groups=1):
    """He initialization by the outputs of a group (timm ``regnet.py``)."""
    return keras.initializers.VarianceScaling(2 * groups, "fan_out", "untruncated_normal")


def _strided(shape, strides, channels):
    """The output shape of a convolution that is padded to its input's size, rounded up."""
    batch, *sides, _ = shape
    sides = [None if side is None else -(-side // strides) for side in sides]
    return batch, *sides, channels


def _padding(dtype):
    # With a name of its own: Keras would number it, and policies are saved by name.
    return keras.layers.ZeroPadding2D(1, data_format="channels_last", name="pad", dtype=dtype)


def _conv(channels, size, strides, name, dtype):
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


def _batch_norm(name, dtype, gamma="ones"):
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
