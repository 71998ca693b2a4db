"""DeiT: a vision transformer with a class token and, when distilled, a distillation token."""

import keras
from keras import ops

from keras_deit import replicas
from keras_deit.errors import UserError, only_keras, pair, whole
from keras_deit.layers import EPSILON, Block, Dropout, PatchEmbedding, TokenEmbedding

CLIPS = ("clipnorm", "global_clipnorm", "clipvalue")


@keras.saving.register_keras_serializable("keras_deit")
class DeiT(keras.Model):
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
        **kwargs,
    ):
        super().__init__(**only_keras(kwargs))
        size = pair(image_size)
        patch_size, width, depth, heads, num_classes = whole(
            patch_size=patch_size, width=width, depth=depth, heads=heads, num_classes=num_classes
        )
        _check(size, patch_size, width, heads, drop_path=drop_path, dropout=dropout)
        self.image_size, self.patch_size = size, patch_size
        self.width, self.depth, self.heads, self.mlp_ratio = width, depth, heads, mlp_ratio
        self.num_classes, self.distilled, self.rate = num_classes, distilled, drop_path
        self.distillation, self.accumulate = None, 1

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

    def compile(self, *args, distillation=None, accumulate=1, **kwargs):
        """Keras' ``compile``, and

        distillation: a ``Distillation``, or None to train the fused logits on the labels.
        accumulate: into how many parts a step divides its batch, one after another, for the memory
            of one part; the gradients are those of the whole batch.

        Raises UserError when teacher and student do not fit together.
        """
        if distillation is not None:
            distillation.check(self)
        if keras.backend.backend() != "tensorflow" and (distillation or accumulate > 1):
            raise UserError(
                f"distillation and accumulation train on the TensorFlow backend, not on"
                f" {keras.backend.backend()}: set KERAS_BACKEND=tensorflow"
            )
        self.distillation, self.accumulate = distillation, accumulate
        super().compile(*args, **kwargs)
        clips = any(getattr(self.optimizer, name, None) for name in CLIPS)
        if replicas.count() > 1 and clips and not hasattr(type(self.optimizer), "averages"):
            raise UserError(
                "Keras' optimizers clip the gradients of each replica before they are summed:"
                " expected one of keras_deit.optimizer, or no clipping"
            )
        if self.optimizer and not self.optimizer.built:  # not in the first step, traced twice then
            self.optimizer.build(self.trainable_variables)

    @property
    def metrics(self):
        own = self.distillation.metrics if self.distillation else []
        return super().metrics + own

    def train_step(self, *args):
        """One update. With a ``Distillation`` the class head learns the labels and the
        distillation head the teacher, on the same images (paper, section 4)."""
        if self.distillation is None and self.accumulate == replicas.count() == 1:
            return super().train_step(*args)
        import tensorflow as tf

        batch = tuple(x for x in keras.utils.unpack_x_y_sample_weight(*args) if x is not None)
        count = self.accumulate
        if count == 1:
            gradients = self._gradients(*batch)
        else:
            parts = [tf.reshape(x, (count, x.shape[0] // count, *x.shape[1:])) for x in batch]

            def add(part, sums):
                gradients = self._gradients(*(x[part] for x in parts))
                sums = [x + y / count for x, y in zip(sums, gradients, strict=True)]
                return part + 1, sums

            zeros = [tf.zeros_like(variable) for variable in self.trainable_weights]
            _, gradients = tf.while_loop(lambda part, _: part < count, add, (0, zeros))
        self.optimizer.apply(gradients, self.trainable_weights)
        return self.get_metrics_result()

    def _gradients(self, images, labels, weights=None):
        """Those of the loss on some images, which are also added to the metrics. Under a strategy
        Keras divides a loss by the number of replicas, and their gradients are summed."""
        import tensorflow as tf

        distillation = self.distillation
        target = distillation.target(images) if distillation else None
        with tf.GradientTape() as tape:
            logits = self.logits(images, training=True)
            heads = logits[0] if distillation else fuse(logits)
            label_loss = loss = self.compute_loss(images, labels, heads, weights, training=True)
            if distillation:
                loss = distillation.loss(label_loss, logits[-1], target, weights)
            scaled = self.optimizer.scale_loss(loss * replicas.share(images))
        whole = loss * replicas.count()
        self._loss_tracker.update_state(whole, sample_weight=ops.shape(images)[0])
        if distillation:
            distillation.update_metrics(label_loss, logits[-1], target, weights)
        self.compute_metrics(images, labels, fuse(logits), weights)
        return tape.gradient(scaled, self.trainable_weights)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Keras looks at a batch whether or not anything is left to build, and at the mean of the
        replicas' parts, which may be of different sizes: at the first one's, here."""
        if self._compile_metrics is None or self._compile_metrics.built:
            return
        if iterator is not None and self._distribute_strategy is not None:
            _, _, batches = next(iter(iterator))
            local = self.distribute_strategy.experimental_local_results
            data_batch = keras.tree.map_structure(lambda x: local(x)[0], next(batches))
        super()._maybe_symbolic_build(data_batch=data_batch)

    def test_step(self, *args):
        """Keras' own, without the distillation's metrics, which belong to training."""
        if self.distillation is None:
            return super().test_step(*args)
        own = {metric.name for metric in self.distillation.metrics}
        return {name: x for name, x in super().test_step(*args).items() if name not in own}

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
        }

    def get_config(self):
        return {**super().get_config(), **self.fields}

    def get_compile_config(self):
        """Nothing: a saved model is the function, without optimizer, losses or teacher."""
        return {}


def fuse(logits):
    """The heads' prediction: the mean of their logits."""
    return sum(logits) / len(logits)


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
