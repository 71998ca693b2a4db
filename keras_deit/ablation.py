"""The paper's comparison of distillation methods (its Table 3), over seeds, on any recipes."""

import csv
import dataclasses
import io
import pathlib
import statistics

import keras

from keras_deit import data, plots
from keras_deit.evaluation import HEADS, evaluate
from keras_deit.files import write
from keras_deit.training import train

COLUMNS = ("method", "seed", *HEADS, "fused")


def run(methods, seeds, workdir, data_dir=None, split="test"):
    """Trains and scores every method at every seed, showing a progress bar for each; a run that is
    finished already is not repeated.

    Args:
        methods: recipes by method name, "teacher" first: it teaches those of its seed that have a
            teacher.
        seeds: with the same one, all methods train on the same images.
        workdir: holds a workdir per run, ``<method>-<seed>``.
        data_dir: where TFDS keeps its data sets.
        split: what the scores are taken on.

    Returns:
        A dict of ``COLUMNS`` per run: accuracies as fractions, None where a head does not exist.
    """
    rows, runs = [], [(seed, method) for seed in seeds for method in methods]
    for number, (seed, method) in enumerate(runs, 1):
        recipe = dataclasses.replace(methods[method], seed=seed)
        if recipe.teacher is not None:
            teacher = folder(workdir, "teacher", seed) / "last.keras"
            recipe = dataclasses.replace(recipe, teacher=str(teacher))
        print(f"[{number}/{len(runs)}] {method}, seed {seed}", flush=True)
        model = train(recipe, folder(workdir, method, seed), data_dir, _Bar(recipe.epochs))
        scores = evaluate(model, data.evaluation(recipe, data_dir, split))
        rows.append({"method": method, "seed": seed, **scores})
    return rows


def folder(workdir, method, seed):
    """The workdir of one run."""
    return pathlib.Path(workdir) / f"{method}-{seed}"


def report(rows, workdir):
    """Writes ``results.csv`` (``COLUMNS``, empty where a head does not exist), ``results.md`` and
    ``learning_curves.png`` into ``workdir``."""
    workdir = pathlib.Path(workdir)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write(workdir / "results.csv", lambda path: path.write_text(text.getvalue()))
    write(workdir / "results.md", lambda path: path.write_text(table(rows)))
    curves = {}
    for row in rows:
        run = folder(workdir, row["method"], row["seed"])
        curves.setdefault(row["method"], []).append(run)
    plots.learning_curves(curves, workdir / "learning_curves.png")


def table(rows):
    """The rows as a Markdown table, mean ± sample standard deviation over seeds in percent, and a
    line that compares hard distillation with none, fused heads."""
    titles = ["method", *(f"{head} head" for head in HEADS), "fused"]
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1)]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for method in methods:
        scores = [_scores(rows, method, column) for column in COLUMNS[2:]]
        lines.append([method, *map(_percent, scores)])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\n{_verdict(rows)}\n" if {"hard", "none"} <= set(methods) else f"{text}\n"


def _scores(rows, method, column):
    return [row[column] for row in rows if row["method"] == method and row[column] is not None]


def _spread(scores):
    return statistics.stdev(scores) if len(scores) > 1 else 0.0


def _percent(scores):
    if not scores:
        return "-"
    return f"{100 * statistics.mean(scores):.1f} ± {100 * _spread(scores):.1f}"


def _verdict(rows):
    hard, none = (_scores(rows, method, "fused") for method in ("hard", "none"))
    gain = 100 * (statistics.mean(hard) - statistics.mean(none))
    spread = 100 * max(_spread(hard), _spread(none))
    verdict = "more" if gain > spread else "not more"
    return (
        f"Hard distillation against none: {gain:+.1f} points in the mean over {len(hard)} seeds,"
        f" {verdict} than the spread of {spread:.1f} (the larger standard deviation of the two)."
    )


class _Bar(keras.callbacks.Callback):
    """One progress bar for a whole training, a step an epoch."""

    def __init__(self, epochs):
        super().__init__()
        self.bar = keras.utils.Progbar(epochs, unit_name="epoch", stateful_metrics=["accuracy"])

    def on_epoch_end(self, epoch, logs=None):
        self.bar.update(epoch + 1, [("accuracy", logs["val_accuracy"])])
