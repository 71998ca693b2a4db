"""The layers of a DeiT, only on ``keras.ops``, under the published parameter names.

Shapes: ``batch`` images become ``tokens`` vectors of ``width`` numbers. Initial values are the
published ones (timm ``vision_transformer.py``): matrices, tokens and position embedding
N(0, .02), biases zero, and the patch projection PyTorch's default for a convolution.

Saved files name layers by class and attribute: renaming either makes ``.weights.h5`` files
unreadable.
"""

import keras
from keras import ops

from keras_deit.models import operations
from keras_deit.models.dropout import Dropout, DropPath
from keras_deit.models.keras_layers import Conv2D, Dense, LayerNormalization
from keras_deit.models.policies import build_layer

EPSILON = 1e-6  # LayerNorm


def _dense(units, name, dtype):
    normal = keras.initializers.RandomNormal(stddev=0.02)
    return Dense(units, kernel_initializer=normal, name=name, dtype=dtype)


def _norm(name, dtype):
    return LayerNormalization(epsilon=EPSILON, name=name, dtype=dtype)


@keras.saving.register_keras_serializable("keras_deit")
class PatchEmbedding(keras.layers.Layer):
    """Projects each square of an image: (batch, height, width, 3) to (batch, patches, units).

    Args:
        patch_size: int. Side of a square patch, in pixels.
        units: int. Length of a patch's vector.

    Example:
        >>> import numpy as np
        >>> from keras_deit.models.deit_layers import PatchEmbedding
        >>> tuple(PatchEmbedding(8, 12)(np.zeros((1, 24, 16, 3))).shape)
        (1, 6, 12)
    """

    def __init__(self, patch_size, units, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size
        self.units = units

        # PyTorch's default: uniform within 1 / sqrt(inputs of an output).
        bound = (patch_size * patch_size * 3) ** -0.5
        initializer = keras.initializers.RandomUniform(-bound, bound)
        self.proj = Conv2D(
            units,
            patch_size,
            strides=patch_size,
            data_format="channels_last",
            kernel_initializer=initializer,
            bias_initializer=initializer.clone(),
            name="proj",
            dtype=self.dtype_policy,
        )

    def build(self, input_shape):
        build_layer(self, self.proj, input_shape)

    def call(self, images):
        grid = self.proj(images)
        return ops.reshape(grid, (-1, grid.shape[1] * grid.shape[2], self.units))

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return batch, (height // self.patch_size) * (width // self.patch_size), self.units

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size, "units": self.units}


@keras.saving.register_keras_serializable("keras_deit")
class TokenEmbedding(keras.layers.Layer):
    """Puts the learned tokens before the patches, then adds the position embedding to all of them.

    (batch, patches, width) to (batch, tokens + patches, width). The order is [class, distillation,
    patches] (the paper's Figure 2 draws the distillation token last; the published weights hold it
    second).

    Args:
        distilled: bool. Whether there is a distillation token.

    Example:
        >>> import numpy as np
        >>> from keras_deit.models.deit_layers import TokenEmbedding
        >>> tuple(TokenEmbedding(distilled=True)(np.zeros((1, 6, 12))).shape)
        (1, 8, 12)
    """

    def __init__(self, distilled, **kwargs):
        super().__init__(**kwargs)
        self.distilled = distilled

    def build(self, input_shape):
        _, patches, width = input_shape
        normal = keras.initializers.RandomNormal(stddev=0.02)

        def weight(name, tokens):
            return self.add_weight(shape=(1, tokens, width), initializer=normal.clone(), name=name)

        self.cls_token = weight("cls_token", 1)
        self.dist_token = weight("dist_token", 1) if self.distilled else None
        self.pos_embed = weight("pos_embed", patches + 1 + self.distilled)

    def call(self, patches):
        tokens = [self.cls_token] + ([self.dist_token] if self.distilled else [])
        shape = (ops.shape(patches)[0], 1, patches.shape[-1])
        prefix = [ops.cast(ops.broadcast_to(token, shape), patches.dtype) for token in tokens]

        x = ops.concatenate([*prefix, patches], axis=1)
        return x + ops.cast(self.pos_embed, patches.dtype)

    def compute_output_shape(self, input_shape):
        batch, patches, width = input_shape
        return batch, patches + 1 + self.distilled, width

    def get_config(self):
        return {**super().get_config(), "distilled": self.distilled}


@keras.saving.register_keras_serializable("keras_deit")
class Attention(keras.layers.Layer):
    """Multi-head self-attention with one fused projection to queries, keys and values.

    (batch, tokens, width) to the same shape.

    Args:
        heads: int. A divisor of the width.

    Example:
        >>> import numpy as np
        >>> from keras_deit.models.deit_layers import Attention
        >>> layer = Attention(heads=3)
        >>> tuple(layer(np.ones((1, 8, 12))).shape)
        (1, 8, 12)
        >>> weights, values = layer.attend(np.ones((1, 8, 12), "float32"))
        >>> tuple(weights.shape), tuple(values.shape)
        ((1, 3, 8, 8), (1, 3, 8, 4))
    """

    def __init__(self, heads, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, input_shape):
        width = input_shape[-1]
        self.qkv = _dense(3 * width, "qkv", self.dtype_policy)
        self.proj = _dense(width, "proj", self.dtype_policy)
        build_layer(self, self.qkv, input_shape)
        build_layer(self, self.proj, input_shape)

    def attend(self, x, training=False):
        """(batch, tokens, width) to the attention weights, (batch, heads, tokens, tokens), each row
        summing to one, and the values, (batch, heads, tokens, width // heads). The weights are
        float32, and in training of the values' dtype."""
        _, tokens, width = x.shape
        qkv = ops.reshape(self.qkv(x), (-1, tokens, 3, self.heads, width // self.heads))
        q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), 3)

        scores = ops.matmul(q, ops.swapaxes(k, -1, -2))
        scale = (width // self.heads) ** -0.5
        return operations.attention_weights(scores, scale, training), v

    def call(self, x, training=False):
        weights, values = self.attend(x, training)
        mixed = ops.matmul(ops.cast(weights, values.dtype), values)
        return self.proj(ops.reshape(ops.swapaxes(mixed, 1, 2), (-1, *x.shape[1:])))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("keras_deit")
class MLP(keras.layers.Layer):
    """Two dense layers with an exact (erf) GELU between them; dropout after the GELU and after the
    second layer. (batch, tokens, width) to the same shape.

    Args:
        hidden: int. Width between the two layers.

    Example:
        >>> import numpy as np
        >>> from keras_deit.models.deit_layers import MLP
        >>> tuple(MLP(hidden=48)(np.ones((1, 8, 12))).shape)
        (1, 8, 12)
    """

    def __init__(self, hidden, **kwargs):
        super().__init__(**kwargs)
        self.hidden = hidden

    def build(self, input_shape):
        self.fc1 = _dense(self.hidden, "fc1", self.dtype_policy)
        self.fc2 = _dense(input_shape[-1], "fc2", self.dtype_policy)
        build_layer(self, self.fc1, input_shape)
        build_layer(self, self.fc2, (*input_shape[:-1], self.hidden))

    def call(self, x, training=False, drop=lambda y: y):
        # Two dimensions: only then TensorFlow fuses a GELU into the matrix product before it.
        rows = ops.reshape(x, (-1, x.shape[-1]))
        hidden = drop(operations.gelu(self.fc1(rows), training))
        return ops.reshape(drop(self.fc2(hidden)), (-1, *x.shape[1:]))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "hidden": self.hidden}


@keras.saving.register_keras_serializable("keras_deit")
class Block(keras.layers.Layer):
    """A pre-norm transformer block: (batch, tokens, width) to the same shape.

    Args:
        heads: int. Attention heads, a divisor of the width.
        mlp_ratio: float. Hidden width of the MLP over the width.
        drop_path: float in [0, 1). Rate of stochastic depth. Default 0.
        dropout: float in [0, 1). Rate after the attention and in the MLP. Default 0.

    Example:
        >>> import numpy as np
        >>> from keras_deit.models.deit_layers import Block
        >>> tuple(Block(heads=3, mlp_ratio=4.0)(np.ones((1, 8, 12))).shape)
        (1, 8, 12)
    """

    def __init__(self, heads, mlp_ratio, drop_path=0.0, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads
        self.mlp_ratio = mlp_ratio
        self.rate = drop_path

        # This order is that of the model's variables, which running trainings resume by.
        policy = self.dtype_policy
        self.dropout = Dropout(dropout, name="dropout", dtype=policy) if dropout else None
        self.norm1 = _norm("norm1", policy)
        self.norm2 = _norm("norm2", policy)
        self.attn = Attention(heads, name="attn", dtype=policy)
        self.drop_path = DropPath(drop_path, name="drop_path", dtype=policy)

    def build(self, input_shape):
        hidden = int(self.mlp_ratio * input_shape[-1])
        self.mlp = MLP(hidden, name="mlp", dtype=self.dtype_policy)

        layers = [self.norm1, self.attn, self.norm2, self.mlp, self.drop_path]
        if self.dropout:
            layers.append(self.dropout)
        for layer in layers:
            build_layer(self, layer, input_shape)

    def call(self, x, training=False):
        def drop(y):
            return self.dropout(y, training=training) if self.dropout else y

        # A layer of another dtype policy leaves the residual stream in the block's.
        y = drop(self.attn(self.norm1(x)))
        x = x + ops.cast(self.drop_path(y, training=training), x.dtype)

        y = self.mlp(self.norm2(x), drop=drop)
        return x + ops.cast(self.drop_path(y, training=training), x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "heads": self.heads,
            "mlp_ratio": self.mlp_ratio,
            "drop_path": self.rate,
            "dropout": self.dropout.rate if self.dropout else 0.0,
        }
