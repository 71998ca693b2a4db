"""Figures of training runs, batches and attention, as PNG files."""

import math
import pathlib
import warnings

import numpy as np
from keras import ops

from keras_deit.configs.preprocessing import IMAGENET
from keras_deit.data.transforms import normalize
from keras_deit.utils import tables
from keras_deit.utils.files import atomic_write
from keras_deit.utils.names import printable
from keras_deit.utils.paths import expand_home

MIN_LABEL = 0.05  # smaller entries of a label, as label smoothing makes, are not printed
MAX_NAME = 18  # characters of a class name that fit above an image


def learning_curves(workdirs, path, column="val_accuracy", title="Validation accuracy"):
    """Plots a column of ``metrics.csv`` by epoch, for several groups of runs.

    Each group has a line for the mean of its runs, and a band from the lowest to the highest.

    Args:
        workdirs: dict of lists of workdirs, by the group's name.
        path: the PNG to write.
        column: str. Default "val_accuracy".
        title: str. Title of the figure. Default "Validation accuracy".
    """
    figure, axes = canvas(7, 4)

    for name, folders in workdirs.items():
        curves = np.array([_metric(folder, column) for folder in folders])
        epochs = np.arange(1, curves.shape[1] + 1)
        axes.plot(epochs, curves.mean(axis=0), label=f"{name}  {curves[:, -1].mean():.1%}")
        axes.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), alpha=0.15, lw=0)

    axes.set(title=title, ylim=(0, 1))
    axes.legend(frameon=False, loc="upper left", title="mean of the last epoch")
    axes.yaxis.set_major_formatter(_percent)
    _style_by_epoch(axes)
    save(figure, path)


def run_curves(rows, path):
    """Plots one run by epoch: its losses on the left, its accuracies on the right.

    Args:
        rows: list of dicts, one per epoch, of the columns of ``metrics.csv``.
        path: the PNG to write.
    """
    figure, axes = canvas(10, 3.8, 1, 2)
    epochs = [row["epoch"] + 1 for row in rows]
    colors = {}

    for axis, metric in zip(axes, ("loss", "accuracy"), strict=True):
        for column in (column for column in rows[0] if column.endswith(metric)):
            label = column.removesuffix(metric).replace("val_", "validation ").replace("_", " ")
            label = label.strip() or "training"
            # A label has the same color in both plots.
            color = colors.setdefault(label, f"C{len(colors)}")
            style = "-" if column.startswith("val") else "--"
            values = [row[column] for row in rows]
            axis.plot(epochs, values, style, label=label, color=color, marker=".")

        axis.set(title=metric)
        axis.legend(frameon=False)
        _style_by_epoch(axis)

    axes[1].yaxis.set_major_formatter(_percent)
    save(figure, path)


def attention_maps(model, images, path):
    """Plots each image and, over it, the attention of the class and of the distillation token.

    The attention is that to the patches, as the mean over heads and blocks.

    Args:
        model: a distilled ``DeiT``.
        images: uint8 (count, height, width, 3), of the model's size.
        path: the PNG to write.
    """
    inputs = normalize(images, preprocessing=model.preprocessing)
    attention = ops.convert_to_numpy(model.attention_maps(inputs)).mean(axis=(1, 2))
    grid = [side // model.patch_size for side in model.image_size]
    # The tokens are [class, distillation, patches].
    maps = attention[:, :2, 2:].reshape(-1, 2, *grid)
    maps = maps.repeat(model.patch_size, axis=2).repeat(model.patch_size, axis=3)

    figure, axes = canvas(1.1 * len(images), 3.6, 3, len(images))
    axes = axes.reshape(3, len(images))
    for column, (image, token_maps) in enumerate(zip(images, maps, strict=True)):
        axes[0, column].imshow(image)
        for row, token_map in enumerate(token_maps, 1):
            axes[row, column].imshow(image.mean(axis=-1), cmap="gray")
            axes[row, column].imshow(token_map, cmap="magma", alpha=0.65)

    titles = ("image", "class token", "distillation\ntoken")
    for axis, title in zip(axes[:, 0], titles, strict=True):
        axis.set_ylabel(title)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    save(figure, path)


def contact_sheet(images, labels, class_names, path, columns=8, preprocessing=IMAGENET):
    """Plots a batch as the model gets it: each image under the main classes of its label.

    Args:
        images: float32 (batch, height, width, 3), normalized.
        labels: (batch, num_classes), in [0, 1]: labels, smoothed and mixed, or probabilities.
        class_names: sequence of num_classes str.
        path: the PNG to write.
        columns: int. Images in a row. Default 8.
        preprocessing: ``Preprocessing`` by which they are normalized. Default: ImageNet's.
    """
    pixels = np.clip(np.asarray(images) * preprocessing.std + preprocessing.mean, 0, 1)
    columns = min(columns, len(pixels))
    rows = math.ceil(len(pixels) / columns)

    figure, axes = canvas(1.6 * columns, 1.95 * rows, rows, columns)
    axes = np.atleast_1d(axes).reshape(-1)
    # The last row may have more places than there are images.
    for axis, image, label in zip(axes, pixels, np.asarray(labels), strict=False):
        axis.imshow(image)
        axis.set_title(_label_text(label, class_names), fontsize=7)
    for axis in axes:
        axis.axis("off")
    save(figure, path)


def _label_text(label, class_names):
    """The one or two main classes of a label, a line each, with their entries in the label."""
    top2 = np.argsort(-label, kind="stable")[:2]
    shown = [number for number in top2 if label[number] > MIN_LABEL] or top2[:1]
    lines = []

    for number in shown:
        name = printable(class_names[number])  # matplotlib refuses what is not valid Unicode
        lines.append(f"{name[:MAX_NAME]} {label[number]:.2f}")
    return "\n".join(lines)


def canvas(width, height, rows=1, columns=1):
    """A matplotlib figure and its axes.

    Args:
        width, height: float, in inches.
        rows, columns: int. The grid of axes. Default 1.
    """
    # Not pyplot's figure: that would look for a screen, and stay in memory.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def save(figure, path):
    """Writes a figure as PNG, atomically, with all of its texts as they are."""
    from matplotlib.text import Text

    # A name with two dollar signs would be read as a formula.
    for text in figure.findobj(Text):
        text.set_parse_math(False)

    with warnings.catch_warnings():
        # A class name may be in a script that the font lacks: it is drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        atomic_write(path, lambda partial: figure.savefig(partial, dpi=120))


def _style_by_epoch(axes):
    axes.set(xlabel="epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _percent(value, _):
    return f"{value:.0%}"


def _metric(workdir, column):
    """A column of a run's ``metrics.csv`` as floats."""
    path = pathlib.Path(expand_home(workdir)) / "metrics.csv"
    return [float(row[column]) for row in tables.read_csv(path)]
