"""RegNetY, the convnet family of the paper's teacher."""

import keras
from keras import ops

from keras_deit.configs.variants import VARIANTS
from keras_deit.models.base import ImageClassifier
from keras_deit.models.keras_layers import Dense
from keras_deit.models.policies import build_layer
from keras_deit.models.regnet_layers import YBlock, batch_norm, conv, padding
from keras_deit.utils.errors import UserError
from keras_deit.utils.validation import check_normalized, positive_integers


@keras.saving.register_keras_serializable("keras_deit")
class RegNetY(ImageClassifier):
    """RegNetY (Radosavovic et al., 2020, arXiv 2003.13678) for images of any size.

    Calling it gives logits, float32 (batch, num_classes), of images float32 (batch, height, width,
    3), normalized as ``preprocessing`` says.

    Args:
        stem: int. Channels of the first 3x3 convolution, which has stride 2.
        depths: sequence of int. Blocks of each stage; every stage's first block has stride 2.
        widths: sequence of int. Channels of each stage, multiples of ``group_width``.
        group_width: int. Channels of a group of the 3x3 convolutions.
        se_ratio: float. Width of the squeeze-excitations over their block's input channels.
            Default 0.25.
        num_classes: int. Outputs. Default 1000.
        class_names: list or tuple of str, or None. Class names in output order. Default None.
        preprocessing: ``Preprocessing``, dict or None, as for ``ImageClassifier``. Default None,
            ImageNet's.
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
        preprocessing=None,
        **kwargs,
    ):
        super().__init__(num_classes, class_names, preprocessing, **kwargs)

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
        self.pad = padding(policy)
        self.stem = conv(stem, 3, 2, "stem.conv", policy)
        self.stem_bn = batch_norm("stem.bn", policy)

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
        check_normalized(images)
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
            "preprocessing": self.preprocessing.fields,
        }

    def timm_config(self):
        # timm's RegNets take no widths and depths as arguments: only the published one has a name.
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
