"""What a run is going to do: printed before its first step, and kept as ``plan.json``."""

import dataclasses
import platform
from importlib import metadata

import keras

from keras_deit.distribution import processes, strategies
from keras_deit.training.optimization import learning_rate


def make_plan(planned, recipe, model, training, validation):
    """A dict of "recipe", its fields; "run", what comes of them, as texts; and "versions".

    Args:
        planned: the ``Recipe`` that was asked for.
        recipe: the same with the batch that the data allow.
        model: what it trains, compiled.
        training, validation: its batches.
    """
    size = "x".join(map(str, training.element_spec[0].shape[1:3]))
    warmup = f"warm-up {recipe.warmup_epochs:g} epochs from {recipe.warmup_lr:g}"
    if recipe.warmup_epochs >= recipe.epochs:
        warmup += " (as long as the run: it ends below the peak)"
    pupil = "token" if recipe.token else "class head"
    teach = f"{recipe.teacher}, {recipe.distillation} through the {pupil}, alpha {recipe.alpha:g}"
    if recipe.distillation == "label":
        teach = f"none; the distillation head learns the label too, alpha {recipe.alpha:g}"
    teach += f", tau {recipe.tau:g}, divided by {recipe.reduction}" * (
        recipe.distillation == "soft"
    )
    devices, hosts = strategies.devices(), processes.count()
    whole = f"{training.info.batch_size} on {devices} device{'s' * (devices > 1)}"
    whole += f" of {hosts} processes" * (hosts > 1)
    if recipe.batch_size < planned.batch_size:
        whole += f" (all there are, fewer than {planned.batch_size})"
    if recipe.accumulate > 1:
        whole += f", in {recipe.accumulate} parts"
    if recipe.repeats > 1:
        whole += f", {recipe.repeats} views of an image"
    rules = [recipe.optimizer, f"weight decay {recipe.weight_decay:g}"]
    rules += [f"none on {', '.join(recipe.no_decay)}"]
    rules += [f"norm clipped to {recipe.clip_norm:g}"] * bool(recipe.clip_norm)
    rules += [f"moving average {recipe.ema:g}"] * bool(recipe.ema)
    run = {
        "recipe": recipe.note,
        "model": f"{recipe.variant or type(model).__name__}, {model.count_params():,} parameters,"
        f" {size} pixels",
        "start": f"{recipe.start or 'random weights'}"
        f"{', with new heads' * bool(recipe.start and recipe.new_heads)}",
        "training": _TRAINABLE[recipe.trainable],
        "data": f"{recipe.dataset}: {training.info.images:,} training and"
        f" {validation.info.images:,} validation images, {training.num_classes} classes",
        "batch": whole,
        "steps": f"{training.steps} x {recipe.epochs} epochs ({recipe.passes} passes each)",
        "learning rate": f"{recipe.lr:g} at 512 images, {learning_rate(recipe):g} at"
        f" {recipe.batch_size}; {warmup}, cosine to {recipe.min_lr:g}, by {recipe.schedule}s",
        "optimizer": ", ".join(rules),
        "mode": recipe.mode,
        "teacher": "none" if recipe.distillation == "none" else teach,
        "precision": recipe.precision,
        "engine": f"{keras.backend.backend()}, {_xla(model)}",
        "checkpoints": f"every {recipe.save_minutes:g} minutes, or as often as takes under 5 %"
        f" of the time; the last {recipe.keep} are kept",
    }
    names = ("keras", keras.backend.backend(), "numpy")
    versions = {name: metadata.version(name) for name in names}
    versions["python"] = platform.python_version()
    return {"recipe": dataclasses.asdict(planned), "run": run, "versions": versions}


_TRAINABLE = {
    "all": "all variables",
    "attention": "attention, position embedding and heads; all else stays",
    "heads": "the heads; all else stays",
}


def _xla(model):
    if getattr(model, "compiles_replicas", False):
        return "XLA on, for what each replica does with its images"
    return "XLA on" if model.jit_compile else "XLA off"
