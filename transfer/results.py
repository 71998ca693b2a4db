"""Results of a sweep, beside what is published: as Markdown and as a picture."""

import statistics

import numpy as np

from keras_deit.evaluation import plots
from transfer.tasks import TASKS

NAMES = {"linear": "linear probe", "neighbours": "nearest neighbours"}  # of methods
METRICS = {"top1": "top-1", "per_class": "mean of classes"}


def markdown(rows):
    """The fused scores in percent: a line for each model and method, a column for each task; mean ±
    sample standard deviation over seeds, and in brackets what the paper has (Table 7).

    Args:
        rows: dicts of ``sweep.COLUMNS``.
    """
    tasks = list(dict.fromkeys((row["task"], row["metric"]) for row in rows))
    head = ["model", "method", *(f"{title(task)}, {METRICS[metric]}" for task, metric in tasks)]
    lines = [head, ["---", "---", *["---:"] * len(tasks)]]
    for model, method in _methods(rows):
        cells = [_cell(rows, task, model, method) for task, _ in tasks]
        lines.append([f"`{model}`", NAMES.get(method, method), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def title(task):
    """What to call a task."""
    return TASKS[task].title if task in TASKS else task.rstrip("/").rpartition("/")[2]


def _methods(rows):
    found = {row["model"]: [] for row in rows}
    for row in rows:
        if row["method"] and row["method"] not in found[row["model"]]:
            found[row["model"]].append(row["method"])
    return [(model, method) for model, methods in found.items() for method in methods or ["-"]]


def _of(rows, task, model, method):
    return [
        row
        for row in rows
        if (row["task"], row["model"]) == (task, model) and row["method"] in (method, None)
    ]


def _cell(rows, task, model, method):
    rows = _of(rows, task, model, method)
    scores = [100 * row["fused"] for row in rows if row["fused"] is not None]
    parts = [f"{statistics.mean(scores):.1f}"] if scores else ["failed" if rows else "-"]
    parts += [f"± {statistics.stdev(scores):.1f}"] if len(scores) > 1 else []
    parts += [f"({100 * rows[0]['published']:.1f})"] if rows and rows[0]["published"] else []
    return " ".join(parts)


def chart(rows, path):
    """Draws the same as bars, a group for each task, with the standard deviation over seeds; a
    black line is the paper's score of that model.

    Args:
        rows: dicts of ``sweep.COLUMNS``.
        path: the PNG to write.
    """
    tasks, methods = list(dict.fromkeys(row["task"] for row in rows)), _methods(rows)
    figure, axes = plots.canvas(max(5, 1.2 + 0.5 * len(tasks) * (1 + len(methods))), 4)
    width, lowest = 0.8 / len(methods), 1.0
    for number, (model, method) in enumerate(methods):
        places, means, spreads = [], [], []
        for at, task in enumerate(tasks):
            place, of = (
                at + (number - (len(methods) - 1) / 2) * width,
                _of(rows, task, model, method),
            )
            scores = [row["fused"] for row in of if row["fused"] is not None]
            if scores:
                places.append(place)
                means.append(statistics.mean(scores))
                spreads.append(statistics.stdev(scores) if len(scores) > 1 else 0)
                published = of[0]["published"]
                lowest = min(lowest, means[-1] - spreads[-1], published or 1)
                if published:
                    axes.hlines(published, place - width / 2, place + width / 2, "black", lw=2)
        label = f"{model.rpartition('/')[2]}, {NAMES.get(method, method)}"
        bars = axes.bar(places, means, width * 0.92, label=label, color=f"C{number}", alpha=0.85)
        if any(spreads):
            axes.errorbar(places, means, spreads, fmt="none", ecolor="#444444", capsize=3)
        texts = [f"{mean:.1%}"[:-1] for mean in means]
        axes.bar_label(bars, texts, label_type="center", fontsize=7, color="white")
    bottom = np.floor(10 * max(0, lowest - 0.05)) / 10
    axes.set(ylim=(bottom, 1), ylabel="accuracy")
    axes.set_xticks(range(len(tasks)), [title(task) for task in tasks])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.spines[["top", "right"]].set_visible(False)
    if any(row["published"] for row in rows):
        axes.plot([], [], color="black", lw=2, label="the paper's")
    figure.legend(loc="outside lower center", frameon=False, fontsize=8, ncols=2)
    plots.save(figure, path)
