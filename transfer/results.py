"""Results of a sweep beside the published scores, as a Markdown table and as a chart."""

import statistics

import numpy as np

from keras_deit.evaluation import plots
from keras_deit.utils import tables
from transfer.tasks import TASKS

METHOD_TITLES = {"linear": "linear probe", "neighbors": "nearest neighbors"}
METRIC_TITLES = {"top1": "top-1", "per_class": "mean of classes"}
NO_METHOD = "-"  # of a model whose runs have all failed


def markdown(rows):
    """The fused scores in percent: a line for each model and method, a column for each task.

    A cell is the mean ± sample standard deviation over seeds, and in brackets the published score
    (paper, Table 7).

    Args:
        rows: list of dicts with the columns of ``sweep.COLUMNS``.

    Returns:
        A str of lines.
    """
    tasks = list(dict.fromkeys((row["task"], row["metric"]) for row in rows))
    columns = [f"{title(task)}, {METRIC_TITLES[metric]}" for task, metric in tasks]

    lines = []
    for model, method in _models_and_methods(rows):
        cells = [_cell(_rows_of(rows, task, model, method)) for task, _ in tasks]
        lines.append([f"`{model}`", METHOD_TITLES.get(method, method), *cells])

    return tables.markdown(["model", "method", *columns], lines, left=2) + "\n"


def title(task):
    """The name to print of a task, a row of ``TASKS`` or ``folder:<path>``."""
    return TASKS[task].title if task in TASKS else task.rstrip("/").rpartition("/")[2]


def chart(rows, path):
    """Draws the scores as bars, a group for each task, with the standard deviation over seeds. A
    black line is the published score.

    Args:
        rows: list of dicts with the columns of ``sweep.COLUMNS``.
        path: str or path. The PNG to write.
    """
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    methods = _models_and_methods(rows)
    figure, axes = plots.canvas(max(5, 1.2 + 0.5 * len(tasks) * (1 + len(methods))), 4)

    bar_width = 0.8 / len(methods)
    lowest = 1.0
    for number, (model, method) in enumerate(methods):
        offset = (number - (len(methods) - 1) / 2) * bar_width
        # The file's name is last: matplotlib hides a label that begins with an underscore.
        label = f"{METHOD_TITLES.get(method, method)}, {model.rpartition('/')[2]}"
        groups = [_rows_of(rows, task, model, method) for task in tasks]
        lowest = min(lowest, _draw_bars(axes, groups, offset, bar_width, label, f"C{number}"))

    # The axis begins at a tenth below the lowest bar, so that differences show.
    bottom = np.floor(10 * max(0, lowest - 0.05)) / 10
    axes.set(ylim=(bottom, 1), ylabel="accuracy")
    axes.set_xticks(range(len(tasks)), [title(task) for task in tasks])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.spines[["top", "right"]].set_visible(False)

    # An empty line, only for the legend.
    if any(row["published"] for row in rows):
        axes.plot([], [], color="black", lw=2, label="published")
    figure.legend(loc="outside lower center", frameon=False, fontsize=8, ncols=2)
    plots.save(figure, path)


def _draw_bars(axes, groups, offset, width, label, color):
    """Draws one method's bars, a group of rows for each task. Returns the lowest value drawn."""
    places, means, deviations = [], [], []
    lowest = 1.0
    for number, group in enumerate(groups):
        scores = _scores(group)
        if not scores:
            continue

        place = number + offset
        places.append(place)
        means.append(statistics.mean(scores))
        deviations.append(tables.deviation(scores))
        lowest = min(lowest, means[-1] - deviations[-1])

        published = group[0]["published"]
        if published:
            axes.hlines(published, place - width / 2, place + width / 2, "black", lw=2)
            lowest = min(lowest, published)

    bars = axes.bar(places, means, width * 0.92, label=label, color=color, alpha=0.85)
    if any(deviations):
        axes.errorbar(places, means, deviations, fmt="none", ecolor="#444444", capsize=3)
    percents = [f"{100 * mean:.1f}" for mean in means]
    axes.bar_label(bars, percents, label_type="center", fontsize=7, color="white")
    return lowest


def _models_and_methods(rows):
    """The pairs of a model and a method that rows have, each model with its methods in turn."""
    methods = {row["model"]: [] for row in rows}
    for row in rows:
        if row["method"] and row["method"] not in methods[row["model"]]:
            methods[row["model"]].append(row["method"])

    return [(model, method) for model, names in methods.items() for method in names or [NO_METHOD]]


def _rows_of(rows, task, model, method):
    """The rows of one cell. A failed run has no method, and belongs to all of its model's."""
    return [
        row
        for row in rows
        if (row["task"], row["model"]) == (task, model) and row["method"] in (method, None)
    ]


def _scores(rows):
    """The fused scores of the runs that did not fail."""
    return [row["fused"] for row in rows if row["fused"] is not None]


def _cell(rows):
    scores = _scores(rows)
    text = "failed" if rows and not scores else tables.mean_and_deviation(scores)

    published = rows[0]["published"] if rows else None
    return f"{text} ({100 * published:.1f})" if published else text
