"""DeiT: a vision transformer with a class token and, when distilled, a distillation token."""

from typing import ClassVar

import keras
from keras import ops

from keras_deit.distillation.trainer import fuse
from keras_deit.models.base import ImageClassifier
from keras_deit.models.deit_layers import EPSILON, Block, PatchEmbedding, TokenEmbedding
from keras_deit.models.dropout import Dropout
from keras_deit.models.keras_layers import Dense, LayerNormalization
from keras_deit.models.policies import build_layer
from keras_deit.utils.errors import UserError
from keras_deit.utils.validation import (
    check_normalized,
    height_and_width,
    positive_integers,
    with_static_shape,
)


@keras.saving.register_keras_serializable("keras_deit")
class DeiT(ImageClassifier):
    """DeiT (Touvron et al., 2021, arXiv 2012.12877) for images of one size.

    Calling it gives one tensor, in training and in inference: the **fused** logits, float32
    (batch, num_classes), the mean of its heads' logits as in the published code. ``logits`` gives
    each head's own. Images are float32 (batch, height, width, 3), normalized as
    ``preprocessing`` says.

    Args:
        image_size: int or (height, width), in pixels, multiples of ``patch_size``. Default 224.
        patch_size: int. Side of a square patch, in pixels. Default 16.
        width: int. Length of a token vector, a multiple of ``heads``. Default 768.
        depth: int. Number of blocks. Default 12.
        heads: int. Attention heads in each block. Default 12.
        mlp_ratio: float. Hidden width of a block's MLP over ``width``. Default 4.
        num_classes: int. Outputs of each head. Default 1000.
        distilled: bool. Whether there are a distillation token and its head. Default True.
        drop_path: float in [0, 1). Stochastic-depth rate of the last block; it grows linearly from
            0 at the first. Default 0.
        dropout: float in [0, 1). Rate after the embedding, the attention and both layers of each
            MLP. Default 0.
        class_names: list or tuple of str, or None. Class names in output order. Default None.
        preprocessing: ``Preprocessing``, dict or None, as for ``ImageClassifier``. Default None,
            ImageNet's.
        **kwargs: ``name``, ``dtype`` and ``trainable``, as for ``ImageClassifier``.

    Raises:
        UserError: the sizes do not divide, or an argument is out of its range.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> model = kd.DeiT(24, patch_size=8, width=12, depth=2, heads=3, num_classes=5)
        >>> images = np.zeros((2, 24, 24, 3), "float32")
        >>> tuple(model(images).shape)  # fused logits
        (2, 5)
        >>> class_head, distillation_head = model.logits(images)
        >>> tuple(model.features(images).shape)  # 2 tokens + 3 x 3 patches
        (2, 11, 12)
    """

    supports_accumulation = True
    supports_distillation = True
    has_attention = True
    block_suffix = "attn.qkv.weight"
    timm_arguments: ClassVar[dict[str, str]] = {
        "img_size": "image_size",
        "patch_size": "patch_size",
        "embed_dim": "width",
        "depth": "depth",
        "num_heads": "heads",
        "mlp_ratio": "mlp_ratio",
    }

    def __init__(
        self,
        image_size=224,
        patch_size=16,
        width=768,
        depth=12,
        heads=12,
        mlp_ratio=4.0,
        num_classes=1000,
        distilled=True,
        drop_path=0.0,
        dropout=0.0,
        class_names=None,
        preprocessing=None,
        **kwargs,
    ):
        super().__init__(num_classes, class_names, preprocessing, **kwargs)

        self.image_size = height_and_width(image_size)
        self.patch_size, self.width, self.depth, self.heads = positive_integers(
            patch_size=patch_size, width=width, depth=depth, heads=heads
        )
        self.mlp_ratio = mlp_ratio
        self.distilled = distilled
        self.rate = drop_path
        _check_rates(drop_path=drop_path, dropout=dropout)
        _check_sizes(self.image_size, self.patch_size, self.width, self.heads)

        policy = self.dtype_policy
        self.patch_embed = PatchEmbedding(
            self.patch_size, self.width, name="patch_embed", dtype=policy
        )
        self.tokens = TokenEmbedding(distilled, name="tokens", dtype=policy)
        self.dropout = Dropout(dropout, name="dropout", dtype=policy) if dropout else None

        # Stochastic depth grows linearly, as in timm.
        rates = [drop_path * i / max(self.depth - 1, 1) for i in range(self.depth)]
        self.blocks = [
            Block(self.heads, mlp_ratio, rate, dropout, name=f"blocks.{i}", dtype=policy)
            for i, rate in enumerate(rates)
        ]

        self.norm = LayerNormalization(epsilon=EPSILON, name="norm", dtype=policy)
        self.head = self._head("head")
        self.head_dist = self._head("head_dist") if distilled else None

        # Now, not in the first call: weights load into a model that has seen no image.
        self.build((None, *self.image_size, 3))

    def _head(self, name):
        normal = keras.initializers.RandomNormal(stddev=0.02)
        return Dense(
            self.num_classes, kernel_initializer=normal, name=name, dtype=self.dtype_policy
        )

    def build(self, input_shape):
        if self.built:
            return

        height, width = self.image_size
        patches = (height // self.patch_size) * (width // self.patch_size)
        tokens = (None, patches + 1 + self.distilled, self.width)

        build_layer(self, self.patch_embed, input_shape)
        build_layer(self, self.tokens, (None, patches, self.width))
        if self.dropout:
            build_layer(self, self.dropout, tokens)
        for layer in (*self.blocks, self.norm):
            build_layer(self, layer, tokens)
        for head in (self.head, self.head_dist):
            if head is not None:
                build_layer(self, head, (None, self.width))

        self.built = True

    def call(self, images, training=False):
        return fuse(self.logits(images, training=training))

    def logits(self, images, training=False):
        """One float32 (batch, num_classes) tensor per head: [class] or [class, distillation]."""
        x = self.features(images, training=training)

        heads = [self.head(x[:, 0])]
        if self.distilled:
            heads.append(self.head_dist(x[:, 1]))

        # In mixed precision too: losses and softmax need it.
        return [ops.cast(head, "float32") for head in heads]

    def features(self, images, training=False):
        """The tokens after the last LayerNorm, (batch, 1 or 2 + patches, width)."""
        x = self._embed(images)
        if self.dropout:
            x = self.dropout(x, training=training)

        for block in self.blocks:
            x = block(x, training=training)
        return self.norm(x, training=training)

    def head_features(self, images):
        tokens = 1 + self.distilled
        x = self.features(images)[:, :tokens]
        return ops.cast(ops.reshape(x, (-1, tokens * self.width)), "float32")

    def attention_maps(self, images):
        """The attention of every block, float32 (batch, depth, heads, tokens, tokens).

        Row 0 of the last two axes is what the class token attends to; in a distilled model row 1
        is what the distillation token attends to. Both axes are [class, distillation, patches].
        """
        x = self._embed(images)
        maps = []

        for block in self.blocks:
            weights, _ = block.attn.attend(block.norm1(x))
            maps.append(weights)
            x = block(x)

        return ops.stack(maps, axis=1)

    def compute_output_spec(self, images, *args, **kwargs):
        """Keras' own, of images of this size if it is not known: ``keras.Input((None, None, 3))``.
        When images of another size come, the call refuses them."""
        known = (*self.image_size, 3)
        sides = images.shape[1:]
        if isinstance(images, keras.KerasTensor) and len(sides) == 3 and None in sides:
            sides = [side or other for side, other in zip(sides, known, strict=True)]
            images = keras.KerasTensor((images.shape[0], *sides), images.dtype)
        return super().compute_output_spec(images, *args, **kwargs)

    def _embed(self, images):
        check_normalized(images)
        images = with_static_shape(images, None, self.image_size)
        if isinstance(images, keras.KerasTensor) and None in images.shape[1:]:
            height, width = self.image_size
            raise UserError(
                f"images of unknown size: expected keras.Input(({height}, {width}, 3)), which the"
                " model is built for"
            )

        # Without this, images with as many patches in another shape would pass silently.
        if tuple(images.shape[1:]) != (*self.image_size, 3):
            raise UserError(
                f"images of shape {tuple(images.shape)}: expected (batch, height, width, 3) with"
                f" (height, width) = {self.image_size}: build a model with that image_size"
            )
        return self.tokens(self.patch_embed(images))

    @property
    def fields(self):
        return {
            "image_size": list(self.image_size),
            "patch_size": self.patch_size,
            "width": self.width,
            "depth": self.depth,
            "heads": self.heads,
            "mlp_ratio": self.mlp_ratio,
            "num_classes": self.num_classes,
            "distilled": self.distilled,
            "drop_path": self.rate,
            "dropout": self.dropout.rate if self.dropout else 0.0,
            "class_names": self.class_names and list(self.class_names),
            "preprocessing": self.preprocessing.fields,
        }

    def timm_config(self):
        # timm's smallest DeiT with other arguments is any DeiT.
        architecture = f"deit_tiny{'_distilled' if self.distilled else ''}_patch16_224"
        fields = self.fields
        return architecture, {name: fields[field] for name, field in self.timm_arguments.items()}

    @classmethod
    def parameter_shapes(cls, fields):
        height, width = height_and_width(fields["image_size"])
        patch = fields["patch_size"]
        patches = (height // patch) * (width // patch)

        return {
            "pos_embed": (1, patches + 1 + fields["distilled"], fields["width"]),
            "patch_embed.proj.weight": (fields["width"], 3, patch, patch),
            "blocks.0.mlp.fc1.bias": (int(fields["mlp_ratio"] * fields["width"]),),
            "head.bias": (fields["num_classes"],),
        }

    @classmethod
    def block_count(cls, fields):
        return fields["depth"]


def _check_rates(**rates):
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise UserError(f"{name} {rate}: expected a rate from 0, below 1")


def _check_sizes(image_size, patch_size, width, heads):
    if any(side < patch_size or side % patch_size for side in image_size):
        raise UserError(
            f"image_size {image_size} is not a whole number of {patch_size}-pixel patches:"
            f" give an int or (height, width) in multiples of {patch_size}"
        )
    if width % heads:
        raise UserError(f"width {width} does not divide into {heads} heads")
