"""Tables as Markdown and as CSV, and mean ± standard deviation over seeds."""

import csv
import io
import statistics

from keras_deit.utils.files import atomic_write_text


def markdown(header, rows, left=1):
    """A Markdown table.

    Args:
        header: the columns' titles.
        rows: iterables of cells, which are written with ``str``.
        left: how many of the first columns are aligned left; the others are aligned right.

    Returns:
        A str of lines, without a newline at its end.

    Example:
        >>> print(markdown(["model", "top-1"], [["DeiT-Ti", 72.2]]))
        | model | top-1 |
        | --- | ---: |
        | DeiT-Ti | 72.2 |
    """
    header = list(header)
    alignment = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join(markdown_row(cells) for cells in [header, alignment, *rows])


def markdown_row(cells):
    """One line of a Markdown table, for tables that are printed as they are computed."""
    return f"| {' | '.join(map(str, cells))} |"


def write_csv(path, columns, rows):
    """Writes dicts as a CSV file with a header, atomically. None becomes an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(path, text.getvalue())


def read_csv(path):
    """The rows of a CSV file with a header: dicts of str, None for an empty cell."""
    with open(path, newline="", encoding="utf-8") as lines:
        return [{name: text or None for name, text in row.items()} for row in csv.DictReader(lines)]


def deviation(values):
    """The sample standard deviation, 0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def mean_and_deviation(fractions):
    """Fractions, one per seed, as "mean ± sample standard deviation" in percent.

    A single seed has only a mean, and no seed is "-".

    Example:
        >>> mean_and_deviation([0.5, 0.6])
        '55.0 ± 7.1'
    """
    if not fractions:
        return "-"
    text = f"{100 * statistics.mean(fractions):.1f}"
    return text + (f" ± {100 * deviation(fractions):.1f}" if len(fractions) > 1 else "")
