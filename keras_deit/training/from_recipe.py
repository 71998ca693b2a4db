"""A recipe's model: made, or loaded, and compiled."""

import contextlib

import keras

from keras_deit.configs.variants import VARIANTS, DeiTVariant
from keras_deit.distillation.losses import Distillation
from keras_deit.distribution import replicas, strategies
from keras_deit.models.deit import DeiT
from keras_deit.models.factory import build
from keras_deit.training.freezing import freeze
from keras_deit.training.optimization import loss, optimizer
from keras_deit.utils.errors import UserError
from keras_deit.weights import load
from keras_deit.weights.hub import download

LARGE = 1_000_000  # parameters, from which on XLA is worth its compilation on a CPU too


def fetch(recipe):
    """Downloads the published weights that the recipe's teacher and its start need."""
    for name in (recipe.teacher, recipe.start):
        if name in VARIANTS and VARIANTS[name].published:
            download(name)


@contextlib.contextmanager
def precision(recipe):
    """Within it, models are made for the recipe's precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def model_for(recipe, class_names):
    """The recipe's model, new or from what it starts with, for these classes."""
    fields = {"num_classes": len(class_names), "image_size": recipe.image_size}
    if _is_deit(recipe):
        rates = {"drop_path": recipe.drop_path, "dropout": recipe.dropout}
        fields |= rates if recipe.mode == "training" else dict.fromkeys(rates, 0.0)
    elif recipe.distillation != "none":
        raise UserError(f"{recipe.variant} has no distillation token: expected a distilled DeiT")
    elif recipe.accumulate > 1:
        raise UserError(f"{recipe.variant} cannot accumulate gradients: expected accumulate=1")
    if recipe.start is None:
        model = build(recipe.variant, **fields)
    else:
        model = load(recipe.start, recipe.variant, new_heads=recipe.new_heads, **fields)
    model.class_names = tuple(class_names)
    freeze(model, recipe.trainable)
    return model


def _is_deit(recipe):
    if recipe.variant is None:
        return isinstance(load(recipe.start), DeiT)
    if recipe.variant not in VARIANTS:
        known = ", ".join(VARIANTS)
        raise UserError(f"unknown variant {recipe.variant!r}: expected one of {known}")
    return isinstance(VARIANTS[recipe.variant], DeiTVariant)


def compile_for(model, recipe, teacher, steps):
    """Compiles ``model`` for the recipe, with ``teacher`` (a model, or None) and ``steps`` in an
    epoch; whatever a step needs has its variables then."""
    strategies.check(recipe)
    options = {}
    known = getattr(teacher, "class_names", None)
    if known and known != model.class_names:
        raise UserError(
            f"teacher {recipe.teacher} was trained on other classes ({', '.join(known[:3])}, ...)"
            f" than {recipe.dataset} has ({', '.join(model.class_names[:3])}, ...)"
        )
    if teacher is not None or recipe.distillation == "label":
        kind, alpha, tau = recipe.distillation, recipe.alpha, recipe.tau
        options["distillation"] = Distillation(
            teacher, kind, alpha, tau, recipe.reduction, recipe.token
        )
    if recipe.accumulate > 1:
        options["accumulate"] = recipe.accumulate
    model.compile(
        optimizer(recipe, steps),
        loss(recipe),
        # An object, not "accuracy": whatever makes variables in the first step traces it twice.
        weighted_metrics=[keras.metrics.CategoricalAccuracy("accuracy")],
        run_eagerly=recipe.run_eagerly,
        jit_compile=_jit(recipe, model),
        **options,
    )
    nothing = keras.ops.zeros((1, model.num_classes))  # has the metrics make their variables
    model.compute_metrics(None, nothing, nothing)
    model.reset_metrics()


def _jit(recipe, model):
    # Replicas of a RegNetY exchange statistics, which XLA cannot compile.
    alone = keras.backend.backend() == "jax" or replicas.count() == 1 or isinstance(model, DeiT)
    if recipe.jit_compile == "true" and not alone:
        raise UserError("jit_compile=true: expected auto for a RegNetY on several replicas")
    if recipe.jit_compile != "auto":
        return recipe.jit_compile == "true"
    if recipe.run_eagerly or not alone:
        return False
    return True if model.count_params() >= LARGE or keras.backend.backend() == "jax" else "auto"
