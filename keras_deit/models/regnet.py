"""RegNetY, the convnet family of the paper's teacher."""

import keras
from keras import ops

from keras_deit.distillation.trainer import Steps
from keras_deit.distribution import replicas
from keras_deit.utils.errors import UserError
from keras_deit.utils.validation import (
    class_name_tuple,
    keras_arguments,
    positive_integers,
)


@keras.saving.register_keras_serializable("keras_deit")
class GroupedConv2D(keras.layers.Layer):
    """A 3x3 convolution over channel groups, without bias, zero-padded by one on every side.

    Each group is a plain convolution of its own: TensorFlow has no grouped kernel for the CPU and
    its substitute is 20 to 50 times slower in training. The kernel has the layout of
    ``Conv2D(groups=...)``: (3, 3, group width, channels).
    """

    def __init__(self, groups, strides=1, **kwargs):
        super().__init__(**kwargs)
        self.groups, self.strides = groups, strides
        self.pad = keras.layers.ZeroPadding2D(1, data_format="channels_last")

    def build(self, input_shape):
        channels = input_shape[-1]
        self.kernel = self.add_weight(
            shape=(3, 3, channels // self.groups, channels),
            initializer=_he(self.groups),
            name="kernel",
        )

    def call(self, x):
        images = ops.split(self.pad(x), self.groups, axis=-1)
        kernels = ops.split(ops.cast(self.kernel, x.dtype), self.groups, axis=-1)
        return ops.concatenate(
            [
                ops.conv(image, kernel, strides=self.strides, data_format="channels_last")
                for image, kernel in zip(images, kernels, strict=True)
            ],
            axis=-1,
        )

    def get_config(self):
        return {**super().get_config(), "groups": self.groups, "strides": self.strides}


@keras.saving.register_keras_serializable("keras_deit")
class YBlock(keras.layers.Layer):
    """A RegNetY bottleneck: 1x1, grouped 3x3, squeeze-excitation, 1x1, around a shortcut.

    Args:
        channels: output channels.
        group_width: channels of a group of the 3x3 convolution.
        strides: of the 3x3 convolution and of the projected shortcut.
        se_ratio: width of the squeeze-excitation over the block's input channels.
    """

    def __init__(self, channels, group_width, strides, se_ratio, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.group_width = channels, group_width
        self.strides, self.se_ratio = strides, se_ratio

    def build(self, input_shape):
        channels, inputs = self.channels, input_shape[-1]
        self.conv1, self.bn1 = _conv(channels, 1, 1, "conv1.conv"), _batch_norm("conv1.bn")
        groups = channels // self.group_width
        self.conv2, self.bn2 = (
            GroupedConv2D(groups, self.strides, name="conv2.conv"),
            _batch_norm("conv2.bn"),
        )
        self.squeeze = keras.layers.Dense(round(self.se_ratio * inputs), "relu", name="se.fc1")
        self.excite = keras.layers.Dense(channels, "sigmoid", name="se.fc2")
        self.conv3, self.bn3 = _conv(channels, 1, 1, "conv3.conv"), _batch_norm("conv3.bn", "zeros")
        self.projects = self.strides != 1 or inputs != channels
        wide, out = (*input_shape[:-1], channels), (None, None, None, channels)
        self.conv1.build(input_shape)
        for layer in (self.bn1, self.conv2):
            layer.build(wide)
        self.squeeze.build((None, channels))
        self.excite.build((None, self.squeeze.units))
        for layer in (self.bn2, self.conv3, self.bn3):
            layer.build(out)
        if self.projects:
            self.shortcut = _conv(channels, 1, self.strides, "downsample.conv")
            self.shortcut_bn = _batch_norm("downsample.bn")
            self.shortcut.build(input_shape)
            self.shortcut_bn.build(out)

    def call(self, x, training=False):
        y = ops.relu(self.bn1(self.conv1(x), training=training))
        y = ops.relu(self.bn2(self.conv2(y), training=training))
        gate = self.excite(self.squeeze(ops.mean(y, axis=(1, 2))))
        y = y * ops.expand_dims(ops.expand_dims(gate, 1), 1)
        y = self.bn3(self.conv3(y), training=training)
        if self.projects:
            x = self.shortcut_bn(self.shortcut(x), training=training)
        return ops.relu(x + y)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "group_width": self.group_width,
            "strides": self.strides,
            "se_ratio": self.se_ratio,
        }


@keras.saving.register_keras_serializable("keras_deit")
class RegNetY(Steps, keras.Model):
    """RegNetY (Radosavovic et al., 2020), logits float32 (batch, num_classes) of normalised images
    float32 (batch, height, width, 3) of any size.

    Args:
        stem: channels of the first 3x3 convolution, which has stride 2.
        depths: blocks of each stage; every stage's first block has stride 2.
        widths: channels of each stage, multiples of ``group_width``.
        group_width: channels of a group of the 3x3 convolutions.
        se_ratio: width of the squeeze-excitations over their block's input channels.
        num_classes: outputs.
        class_names: what they are of, in their order, or None.

    Raises:
        UserError: when widths, depths and group width do not fit together.
    """

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
        super().__init__(**keras_arguments(kwargs))
        self.stem_width, self.depths, self.widths = stem, tuple(depths), tuple(widths)
        self.group_width, self.se_ratio, self.num_classes = group_width, se_ratio, num_classes
        positive_integers(stem=stem, group_width=group_width, num_classes=num_classes)
        self.class_names = class_name_tuple(class_names, num_classes)
        if len(self.depths) != len(self.widths) or any(w % group_width for w in self.widths):
            raise UserError(
                f"widths {self.widths} with depths {self.depths}: expected one width per depth,"
                f" each a multiple of the group width {group_width}"
            )
        self.pad = keras.layers.ZeroPadding2D(1, data_format="channels_last")
        self.stem, self.stem_bn = _conv(stem, 3, 2, "stem.conv"), _batch_norm("stem.bn")
        self.blocks = [
            YBlock(width, group_width, 2 if i == 0 else 1, se_ratio, name=f"s{s}.b{i + 1}")
            for s, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True), 1)
            for i in range(depth)
        ]
        normal = keras.initializers.RandomNormal(stddev=0.01)
        self.head = keras.layers.Dense(num_classes, kernel_initializer=normal, name="head.fc")
        self.build((None, None, None, 3))

    def build(self, input_shape):
        if self.built:
            return
        self.stem.build(input_shape)
        shape = (None, None, None, self.stem_width)
        self.stem_bn.build(shape)
        for block in self.blocks:
            block.build(shape)
            shape = (None, None, None, block.channels)
        self.head.build((None, self.widths[-1]))
        self.built = True

    def features(self, images, training=False):
        """What the head sees, (batch, widths[-1]): the mean over the last stage's places."""
        x = ops.relu(self.stem_bn(self.stem(self.pad(images)), training=training))
        for block in self.blocks:
            x = block(x, training=training)
        return ops.mean(x, axis=(1, 2))

    def call(self, images, training=False):
        return ops.cast(self.head(self.features(images, training=training)), "float32")

    def logits(self, images, training=False):
        """A list of one, as it has one head."""
        return [self(images, training=training)]

    @property
    def fields(self):
        """The arguments that make this model again."""
        return {
            "stem": self.stem_width,
            "depths": list(self.depths),
            "widths": list(self.widths),
            "group_width": self.group_width,
            "se_ratio": self.se_ratio,
            "num_classes": self.num_classes,
            "class_names": self.class_names and list(self.class_names),
        }

    def get_config(self):
        return {**super().get_config(), **self.fields}

    def get_compile_config(self):
        """Nothing: a saved model is the function, without optimizer or losses."""
        return {}


def _he(groups=1):
    """He initialisation by the outputs of a group (timm ``regnet.py``)."""
    return keras.initializers.VarianceScaling(2 * groups, "fan_out", "untruncated_normal")


def _conv(channels, size, strides, name):
    return keras.layers.Conv2D(
        channels,
        size,
        strides=strides,
        use_bias=False,
        data_format="channels_last",
        kernel_initializer=_he(),
        name=name,
    )


def _batch_norm(name, gamma="ones"):
    """PyTorch's: epsilon 1e-5, and a tenth of the new statistics per step. A residual branch's
    last one starts at gamma 0, so that the block starts as its shortcut. Several replicas have the
    statistics of the whole batch, as one device has."""
    return keras.layers.BatchNormalization(
        epsilon=1e-5,
        momentum=0.9,
        gamma_initializer=gamma,
        synchronized=replicas.count() > 1,
        name=name,
    )
