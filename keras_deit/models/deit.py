"""DeiT: a vision transformer with a class token and, when distilled, a distillation token."""

import keras
from keras import ops

from keras_deit.distillation.trainer import Steps, fuse
from keras_deit.models.deit_layers import EPSILON, Block, Dropout, PatchEmbedding, TokenEmbedding
from keras_deit.utils.errors import UserError
from keras_deit.utils.validation import (
    class_name_tuple,
    height_and_width,
    keras_arguments,
    positive_integers,
)


@keras.saving.register_keras_serializable("keras_deit")
class DeiT(Steps, keras.Model):
    """DeiT (Touvron et al., 2021, arXiv 2012.12877) for images of one size.

    Calling it gives one tensor, in training and in inference: the **fused** logits, float32
    (batch, num_classes), the mean of its heads' logits as in the published code. ``logits`` gives
    each head's own. Images are float32 (batch, height, width, 3), normalised.

    Args:
        image_size: an int or (height, width), in pixels, multiples of ``patch_size``.
        patch_size: side of a square patch, in pixels.
        width: length of a token vector, a multiple of ``heads``.
        depth: number of blocks.
        heads: attention heads in each block.
        mlp_ratio: width of a block's hidden layer over ``width``.
        num_classes: outputs of each head.
        distilled: whether there are a distillation token and its head.
        drop_path: rate of stochastic depth of the last block; it grows linearly from 0.
        dropout: rate after the embedding, the attention and both layers of each MLP.
        class_names: what the outputs are of, in their order, or None.

    Raises:
        UserError: when the sizes do not divide.
    """

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
        **kwargs,
    ):
        super().__init__(**keras_arguments(kwargs))
        size = height_and_width(image_size)
        patch_size, width, depth, heads, num_classes = positive_integers(
            patch_size=patch_size, width=width, depth=depth, heads=heads, num_classes=num_classes
        )
        _check(size, patch_size, width, heads, drop_path=drop_path, dropout=dropout)
        self.image_size, self.patch_size = size, patch_size
        self.width, self.depth, self.heads, self.mlp_ratio = width, depth, heads, mlp_ratio
        self.num_classes, self.distilled, self.rate = num_classes, distilled, drop_path
        self.class_names = class_name_tuple(class_names, num_classes)

        self.patch_embed = PatchEmbedding(patch_size, width, name="patch_embed")
        self.tokens = TokenEmbedding(distilled, name="tokens")
        self.dropout = Dropout(dropout, name="dropout") if dropout else None
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = [
            Block(heads, mlp_ratio, rate, dropout, name=f"blocks.{i}")
            for i, rate in enumerate(rates)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=EPSILON, name="norm")
        self.head = self._head("head")
        self.head_dist = self._head("head_dist") if distilled else None
        self.build((None, *size, 3))

    def _head(self, name):
        normal = keras.initializers.RandomNormal(stddev=0.02)
        return keras.layers.Dense(self.num_classes, kernel_initializer=normal, name=name)

    def build(self, input_shape):
        if self.built:
            return
        patches = (self.image_size[0] // self.patch_size) * (self.image_size[1] // self.patch_size)
        tokens = (None, patches + 1 + self.distilled, self.width)
        self.patch_embed.build(input_shape)
        self.tokens.build((None, patches, self.width))
        for layer in (*self.blocks, self.norm):
            layer.build(tokens)
        for head in (self.head, self.head_dist):
            if head is not None:
                head.build((None, self.width))
        self.built = True

    def features(self, images, training=False):
        """The tokens after the last LayerNorm, (batch, prefix + patches, width)."""
        x = self._embed(images)
        if self.dropout:
            x = self.dropout(x, training=training)
        for block in self.blocks:
            x = block(x, training=training)
        return self.norm(x)

    def _embed(self, images):
        if tuple(images.shape[1:]) != (*self.image_size, 3):
            raise UserError(
                f"images of shape {tuple(images.shape)}: expected (batch, height, width, 3) with"
                f" (height, width) = {self.image_size}: build a model with that image_size"
            )
        return self.tokens(self.patch_embed(images))

    def logits(self, images, training=False):
        """One float32 (batch, num_classes) tensor per head: [class] or [class, distillation]."""
        x = self.features(images, training=training)
        heads = [self.head(x[:, 0])]
        if self.distilled:
            heads.append(self.head_dist(x[:, 1]))
        return [ops.cast(head, "float32") for head in heads]

    def call(self, images, training=False):
        return fuse(self.logits(images, training=training))

    def attention_maps(self, images):
        """Every block's attention, float32 (batch, depth, heads, tokens, tokens); row 0 is what
        the class token looks at, row 1, in a distilled model, what the distillation token does."""
        x, maps = self._embed(images), []
        for block in self.blocks:
            maps.append(block.attn.attend(block.norm1(x))[0])
            x = block(x)
        return ops.stack(maps, axis=1)

    @property
    def fields(self):
        """The arguments that make this model again."""
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
        }

    def get_config(self):
        return {**super().get_config(), **self.fields}

    def get_compile_config(self):
        """Nothing: a saved model is the function, without optimizer, losses or teacher."""
        return {}


def _check(size, patch_size, width, heads, **rates):
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise UserError(f"{name} {rate}: expected a rate from 0, below 1")
    if any(side < patch_size or side % patch_size for side in size):
        raise UserError(
            f"image_size {size} is not a whole number of {patch_size}-pixel patches:"
            f" give an int or (height, width) in multiples of {patch_size}"
        )
    if width % heads:
        raise UserError(f"width {width} does not divide into {heads} heads")
