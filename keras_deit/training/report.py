"""The plan of a run, printed before its first step, and the report of a finished one."""

import dataclasses
import datetime
import platform
from importlib import metadata

import keras

from keras_deit.distribution.devices import unused_gpu
from keras_deit.evaluation import plots
from keras_deit.training.from_recipe import learning_rate
from keras_deit.utils.files import atomic_write_text
from keras_deit.utils.tables import markdown

CURVES = "curves.png"

TRAINABLE = {
    "all": "all variables",
    "attention": "attention, position embedding and heads; the others are frozen",
    "heads": "the heads; the others are frozen",
}


def make_plan(recipe, effective, data, model, training, validation, strategy):
    """What a run is going to do.

    Args:
        recipe: the ``Recipe`` that was asked for.
        effective: the same with the batch size that is used.
        data: what its data is, as ``data_identity.describe`` gives it.
        model: what it trains, compiled.
        training, validation: its ``Batches``.
        strategy: the ``Strategy`` it trains on.

    Returns:
        A dict of "recipe", the fields that were asked for; "data"; "run", what they imply, as
        texts by title; and "versions". JSON can hold it.
    """
    run = {
        "recipe": recipe.note,
        "model": _model_text(effective, model, training),
        "start": _start_text(effective),
        "training": TRAINABLE[effective.trainable],
        "data": f"{recipe.dataset}: {training.info.images:,} training and"
        f" {validation.info.images:,} validation images, {training.num_classes} classes",
        "devices": strategy.describe(),
        "batch": _batch_text(recipe, effective),
        "steps": _steps_text(recipe, training),
        "learning rate": _learning_rate_text(effective),
        "optimizer": _optimizer_text(effective),
        "teacher": _teacher_text(effective),
        "precision": recipe.precision,
        "backend": f"{keras.backend.backend()}, {_xla_text(model)}",
        "checkpoints": f"every {recipe.save_minutes:g} minutes, or less often if that takes over"
        f" 5 % of the time; the last {recipe.keep} are kept",
    }

    warning = unused_gpu()
    if warning:
        run["devices"] += f"; {warning}"

    packages = ("keras", keras.backend.backend(), "numpy")
    versions = {name: metadata.version(name) for name in packages}
    versions["python"] = platform.python_version()

    return {
        "recipe": dataclasses.asdict(recipe),
        "data": data,
        "run": run,
        "versions": versions,
    }


def plan_text(plan):
    """The lines of a plan that are printed: title and text."""
    return "\n".join(f"{title:>15}  {text}" for title, text in plan["run"].items())


def _model_text(recipe, model, training):
    height, width = training.element_spec[0].shape[1:3]
    name = recipe.variant or type(model).__name__
    return f"{name}, {model.count_params():,} parameters, {height}x{width} pixels"


def _start_text(recipe):
    if not recipe.start:
        return "random weights"
    return f"{recipe.start}, with new heads" if recipe.new_heads else recipe.start


def _batch_text(recipe, effective):
    text = f"{effective.batch_size} images"
    if effective.batch_size < recipe.batch_size:
        text += f" (all there are, fewer than {recipe.batch_size})"
    if effective.accumulate > 1:
        text += f", in {effective.accumulate} micro-batches"
    if effective.repeats > 1:
        text += f", {effective.repeats} views of an image"
    return text


def _steps_text(recipe, training):
    text = f"{training.steps} x {recipe.epochs} epochs ({recipe.passes} passes each)"
    if 0 < recipe.target_epochs < recipe.epochs:
        text += f"; the views of the first {recipe.target_epochs} epochs are seen again and again"
    return text


def _learning_rate_text(recipe):
    warmup = f"warm-up {recipe.warmup_epochs:g} epochs from {recipe.warmup_lr:g}"
    if recipe.warmup_epochs >= recipe.epochs:
        warmup += " (as long as the run: it ends below the peak)"
    return (
        f"{recipe.lr:g} at 512 images, {learning_rate(recipe):g} at {recipe.batch_size};"
        f" {warmup}, cosine to {recipe.min_lr:g}, by {recipe.schedule}s"
    )


def _optimizer_text(recipe):
    parts = [recipe.optimizer, f"weight decay {recipe.weight_decay:g}"]
    parts.append(f"none on {', '.join(recipe.no_decay)}")
    if recipe.clip_norm:
        parts.append(f"norm clipped to {recipe.clip_norm:g}")
    if recipe.ema:
        parts.append(f"moving average {recipe.ema:g}")
    return ", ".join(parts)


def _teacher_text(recipe):
    if recipe.distillation == "none":
        return "none"
    if recipe.distillation == "label":
        return f"none; the distillation head learns the label too, alpha {recipe.alpha:g}"

    student = "token" if recipe.token else "class head"
    text = " and ".join(recipe.teacher)
    if recipe.targets:
        text = f"stored targets {recipe.targets}" + f" of {text}" * bool(text)
    text += f", {recipe.distillation} through the {student}, alpha {recipe.alpha:g}"
    if recipe.distillation == "soft":
        text += f", tau {recipe.tau:g}, divided by {recipe.reduction}"
    return text


def _xla_text(model):
    if model.compiles_replicas:
        return "XLA on, for what each replica does with its images"
    return "XLA on" if model.jit_compile else "XLA off"


def write(workdir, recipe, plan, rows, scores, seconds):
    """Writes ``report.md`` and ``curves.png``.

    Args:
        workdir: ``pathlib.Path`` of the run.
        recipe: the ``Recipe``.
        plan: as ``make_plan`` gives it.
        rows: a dict for each epoch, as in ``metrics.csv``.
        scores: ``evaluate``'s, by weights: "last", "average".
        seconds: float. How long the run took, validation included.
    """
    plots.run_curves(rows, workdir / CURVES)

    best = max(rows, key=lambda row: row["val_accuracy"])
    duration = datetime.timedelta(seconds=round(seconds))
    split = f"{recipe.dataset} {recipe.validation_split}"
    header = ["weights", "class head", "distillation head", "fused", "top-5", "loss"]
    table = markdown(header, [_scores_row(name, heads) for name, heads in scores.items()])
    details = {**plan["run"], **plan["versions"]}

    text = f"""# {recipe.variant or recipe.start} on {recipe.dataset}

{recipe.note}

Top-1 on {split}, center-crop ratio {recipe.eval_crop:g}, in percent:

{table}

Best epoch: {best["epoch"] + 1} of {len(rows)}, {best["val_accuracy"]:.2%} (`best.keras`). The run\
 took {duration} (h:mm:ss).

![Loss and accuracy by epoch]({CURVES})

{markdown(["plan", ""], details.items(), left=2)}
"""
    atomic_write_text(workdir / "report.md", text)


def _scores_row(name, scores):
    accuracies = [f"{100 * head.top1:.2f}" if head else "-" for head in scores.values()]
    fused = scores["fused"]
    loss = "-" if fused.loss is None else f"{fused.loss:.4f}"
    return [name, *accuracies, f"{100 * fused.top5:.2f}", loss]
