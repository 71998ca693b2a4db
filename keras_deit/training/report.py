"""The report of a finished run: what was planned, what came of it, and its curves."""

import datetime

from keras_deit.evaluation import plots
from keras_deit.utils.files import atomic_write

CURVES = "curves.png"


def write(workdir, recipe, plan, rows, scores, seconds):
    """Writes ``report.md`` and ``curves.png`` into ``workdir``.

    Args:
        recipe: the ``Recipe``.
        plan: what ``plan.json`` holds.
        rows: of ``metrics.csv``, a dict for each epoch.
        scores: ``evaluate``'s, by which weights: "last", "average".
        seconds: the run took, evaluation included.
    """
    plots.run_curves(rows, workdir / CURVES)
    best = max(rows, key=lambda row: row["val_accuracy"])
    where = f"{recipe.dataset} {recipe.validation_split}, crop {recipe.eval_crop:g}"
    lines = [
        f"# {recipe.variant or recipe.start} on {recipe.dataset}",
        "",
        recipe.note,
        "",
        f"Top-1 on {where}, in percent:",
        "",
        "| weights | class head | distillation head | fused | top-5 | loss |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(_line(name, of) for name, of in scores.items()),
        "",
        f"Best epoch: {best['epoch'] + 1} of {len(rows)}, {best['val_accuracy']:.2%}"
        f" (`best.keras`). The run took"
        f" {datetime.timedelta(seconds=round(seconds))} (h:mm:ss).",
        "",
        f"![Loss and accuracy by epoch]({CURVES})",
        "",
        "| plan | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in plan["run"].items()),
        *(f"| {name} | {value} |" for name, value in plan["versions"].items()),
    ]
    atomic_write(workdir / "report.md", lambda path: path.write_text("\n".join(lines) + "\n"))


def _line(name, scores):
    heads = [f"{100 * of.top1:.2f}" if of else "-" for of in scores.values()]
    fused = scores["fused"]
    loss = "-" if fused.loss is None else f"{fused.loss:.4f}"
    return f"| {name} | {' | '.join(heads)} | {100 * fused.top5:.2f} | {loss} |"
