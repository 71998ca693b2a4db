"""From a recipe to Keras objects: the optimizer, the loss, and the compiled model."""

import contextlib
import dataclasses
import re

import keras

from keras_deit.configs.preprocessing import IMAGENET, as_preprocessing
from keras_deit.configs.variants import VARIANTS
from keras_deit.distillation import Distillation
from keras_deit.distillation.losses import WEIGHTED_MEAN
from keras_deit.distribution import replicas
from keras_deit.models.factory import build as build_model
from keras_deit.models.factory import family_of
from keras_deit.training.optimizers import SGD, AdamW, Lamb, WarmupCosine
from keras_deit.utils.errors import UserError
from keras_deit.utils.keras_private import all_layers
from keras_deit.weights import describe, load
from keras_deit.weights.hub import download
from keras_deit.weights.names import variables

HEADS = ("head.", "head_dist.")  # how the names of the heads' variables begin


def learning_rate(recipe):
    """The peak learning rate: the recipe's, which is for 512 images, scaled to its batch."""
    return recipe.lr * recipe.batch_size / 512


def optimizer(recipe, steps_per_epoch):
    """The recipe's optimizer on its learning rate schedule (paper, Table 9).

    AdamW and SGD are PyTorch's, as in the published code; LAMB is Keras'.

    Args:
        recipe: a ``Recipe``.
        steps_per_epoch: int.

    Returns:
        A Keras optimizer: without weight decay on the variables that the recipe excludes; with a
        clipped global norm and a moving average of the weights (``averages``) if it asks for them.

    Example:
        >>> import keras_deit as kd
        >>> optimizer = kd.optimizer(kd.RECIPES["deit_small"], steps_per_epoch=1251)
        >>> type(optimizer).__name__, optimizer.weight_decay
        ('AdamW', 0.05)
    """
    schedule = WarmupCosine(
        peak=learning_rate(recipe),
        steps=recipe.epochs * steps_per_epoch,
        warmup_steps=round(recipe.warmup_epochs * steps_per_epoch),
        start=recipe.warmup_lr,
        minimum=recipe.min_lr,
        every=steps_per_epoch if recipe.schedule == "epoch" else None,
    )

    options = {"global_clipnorm": recipe.clip_norm or None}
    if recipe.ema:
        options |= {"use_ema": True, "ema_momentum": recipe.ema}

    if recipe.optimizer == "sgd":
        result = SGD(schedule, recipe.momentum, recipe.weight_decay, **options)
    elif recipe.optimizer == "lamb":
        result = Lamb(schedule, weight_decay=recipe.weight_decay, epsilon=1e-6, **options)
    else:
        result = AdamW(schedule, weight_decay=recipe.weight_decay, epsilon=1e-8, **options)

    # Keras asks by its own variable's name, "gamma", or by TensorFlow's, "deit/norm/gamma:0".
    patterns = [rf"(^|/){re.escape(name)}(:\d+)?$" for name in recipe.no_decay]
    result.exclude_from_weight_decay(var_names=patterns)
    return result


def loss(recipe=None):
    """Cross-entropy of logits with float labels, both (batch, num_classes).

    The labels carry the recipe's label smoothing and mixing. The mean over a batch is weighted by
    sample weights, so that zero-weight images do not count.

    Args:
        recipe: ignored, as every recipe has this loss; ``optimizer`` takes one too.

    Example:
        >>> import keras_deit as kd
        >>> round(float(kd.loss()([[1.0, 0.0]], [[0.0, 0.0]])), 4)
        0.6931
    """
    return keras.losses.CategoricalCrossentropy(from_logits=True, reduction=WEIGHTED_MEAN)


def fetch(recipe):
    """Downloads the published weights that the recipe's teachers and its start need."""
    teachers = () if recipe.targets else recipe.teacher
    for name in (*teachers, recipe.start):
        if name in VARIANTS and VARIANTS[name].published:
            download(name)


@contextlib.contextmanager
def precision(recipe):
    """A context in which models are made with the recipe's dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def preprocessing(recipe):
    """How the images of a recipe's model are made: as its start expects them, else as ImageNet's;
    the recipe says whether they are turned upright.

    Returns:
        A ``Preprocessing``.
    """
    own = IMAGENET
    if recipe.start is not None:
        own = as_preprocessing(describe(recipe.start, recipe.variant).fields["preprocessing"])
    return dataclasses.replace(own, upright=recipe.upright)


def build(recipe, class_names, steps_per_epoch, teachers=()):
    """The recipe's model, new or from its ``start``, compiled and ready for ``fit``.

    Args:
        recipe: a ``Recipe``, with the batch size that is used.
        class_names: tuple of str, in output order.
        steps_per_epoch: int.
        teachers: list of published names or files to load, or Keras models. Default none.

    Returns:
        A compiled ``ImageClassifier``; whatever a step needs has its variables.

    Raises:
        UserError: the recipe's fields, its start and its teacher do not fit together.
    """
    keras.utils.set_random_seed(recipe.seed)  # processes must draw the same numbers
    with precision(recipe):
        teachers = [x if isinstance(x, keras.Model) else load(x) for x in teachers]

        # Again: initial weights do not depend on the teacher.
        keras.utils.set_random_seed(recipe.seed)
        model = _model(recipe, class_names)

    _compile(recipe, model, teachers, steps_per_epoch)
    return model


def check(recipe):
    """Checks what can be checked of a recipe without its data: that is before its teacher trains.

    Returns:
        The class of the recipe's model.

    Raises:
        UserError: there is no such variant, or it cannot train as the recipe asks.
    """
    family = _family(recipe)
    if recipe.distillation != "none" and "distilled" not in family.constructor_arguments():
        raise UserError(f"{recipe.variant} has no distillation token: expected a distilled DeiT")
    if recipe.accumulate > 1 and not family.supports_accumulation:
        raise UserError(f"{recipe.variant} cannot accumulate gradients: expected accumulate=1")
    return family


def _model(recipe, class_names):
    family = check(recipe)

    fields = {"num_classes": len(class_names), "image_size": recipe.image_size}
    for rate in ("drop_path", "dropout"):
        if rate in family.constructor_arguments():
            fields[rate] = getattr(recipe, rate)

    with keras.RematScope("full") if recipe.recompute else contextlib.nullcontext():
        if recipe.start is None:
            model = build_model(recipe.variant, **fields)
        else:
            model = load(recipe.start, recipe.variant, new_heads=recipe.new_heads, **fields)

    model.class_names = tuple(class_names)
    model.preprocessing = preprocessing(recipe)
    freeze(model, recipe.trainable)
    return model


def _family(recipe):
    """The class of the recipe's model."""
    if recipe.variant is None:
        return describe(recipe.start).kind
    return family_of(recipe.variant)


def freeze(model, trainable):
    """Makes the variables of a model that is not compiled yet constant, except those named.

    Args:
        model: an ``ImageClassifier``.
        trainable: "all"; "attention", the attention layers, position embedding and heads, as the
            published code's ``--attn-only`` (Touvron et al., 2022, arXiv 2203.09795), which has one
            head; or "heads".

    Raises:
        UserError: the model has no attention.
    """
    if trainable == "attention" and not model.has_attention:
        raise UserError(f"{type(model).__name__} has no attention: expected trainable=all or heads")
    if trainable == "all":
        return

    for name, variable in variables(model).items():
        is_head = name.startswith(HEADS)
        is_attention = ".attn." in name or name == "pos_embed"
        keep = is_head or (trainable == "attention" and is_attention)
        variable.trainable = variable.trainable and keep

    # Statistics that are constant are not collected either.
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def _compile(recipe, model, teachers, steps_per_epoch):
    options = {}
    if recipe.distillation != "none":
        options["distillation"] = Distillation(
            teachers,
            kind=recipe.distillation,
            alpha=recipe.alpha,
            tau=recipe.tau,
            reduction=recipe.reduction,
            token=recipe.token,
        )
    if recipe.accumulate > 1:
        options["accumulate"] = recipe.accumulate

    model.compile(
        optimizer(recipe, steps_per_epoch),
        loss(recipe),
        # An object: "accuracy" makes its variables in the first step, which is then traced twice.
        weighted_metrics=[keras.metrics.CategoricalAccuracy("accuracy")],
        run_eagerly=recipe.run_eagerly,
        jit_compile=_jit_compile(recipe, model),
        **options,
    )

    # The metrics make their variables at the first batch: give them one, and forget it.
    batch = keras.ops.zeros((1, model.num_classes))
    model.compute_metrics(None, batch, batch)
    model.reset_metrics()


def _jit_compile(recipe, model):
    """Whether XLA compiles the training step: True, False, or "auto", the model's own choice."""
    if recipe.jit_compile == "auto":
        return "auto"

    # Models with batch statistics, for which gradients of micro-batches do not add up, exchange
    # them between replicas inside the forward pass, which XLA cannot compile.
    on_jax = keras.backend.backend() == "jax"
    possible = on_jax or replicas.count() == 1 or model.supports_accumulation
    if recipe.jit_compile == "true" and not possible:
        raise UserError("jit_compile=true: expected auto for a RegNetY on several replicas")
    return recipe.jit_compile == "true"
