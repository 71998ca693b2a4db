"""Pictures of training runs and of what the tokens look at, as PNG."""

import csv
import pathlib
import warnings

import numpy as np
from keras import ops

from keras_deit.configs.variants import MEAN, STD
from keras_deit.data.transforms import normalize
from keras_deit.utils.files import atomic_write


def learning_curves(workdirs, path, column="val_accuracy", title="Validation accuracy"):
    """Draws a column of ``metrics.csv`` by epoch: a line for the mean of each name's runs, a band
    from the lowest to the highest.

    Args:
        workdirs: lists of workdirs by name.
        path: the PNG to write.
    """
    figure, axes = canvas(7, 4)
    for name, folders in workdirs.items():
        curves = np.array([_column(pathlib.Path(f) / "metrics.csv", column) for f in folders])
        epochs = np.arange(1, curves.shape[1] + 1)
        axes.plot(epochs, curves.mean(axis=0), label=f"{name}  {curves[:, -1].mean():.1%}")
        axes.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), alpha=0.15, lw=0)
    axes.set(xlabel="epoch", title=title, ylim=(0, 1))
    axes.legend(frameon=False, loc="upper left", title="mean of the last epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def run_curves(rows, path):
    """Draws one run by epoch: its losses, and its accuracies.

    Args:
        rows: a dict for each epoch, of the columns of ``metrics.csv``.
        path: the PNG to write.
    """
    figure, axes = canvas(10, 3.8, 1, 2)
    epochs = [row["epoch"] + 1 for row in rows]
    colours = {}
    for axis, word in zip(axes, ("loss", "accuracy"), strict=True):
        for name in (name for name in rows[0] if name.endswith(word)):
            label = name.removesuffix(word).replace("val_", "validation ").replace("_", " ")
            style = "-" if name.startswith("val") else "--"
            values = [row[name] for row in rows]
            label = label.strip() or "training"
            colour = colours.setdefault(label, f"C{len(colours)}")
            axis.plot(epochs, values, style, label=label, color=colour, marker=".")
        axis.set(xlabel="epoch", title=word)
        axis.legend(frameon=False)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[1].yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    save(figure, path)


def attention_maps(model, images, path):
    """Draws each image and, over it, what the class and the distillation token look at: the mean
    over heads and blocks of their attention to the patches.

    Args:
        model: a distilled ``DeiT``.
        images: uint8 (batch, height, width, 3).
        path: the PNG to write.
    """
    attention = ops.convert_to_numpy(model.attention_maps(normalize(images))).mean(axis=(1, 2))
    rows, columns = (side // model.patch_size for side in model.image_size)
    maps = attention[:, :2, 2:].reshape(-1, 2, rows, columns)
    maps = maps.repeat(model.patch_size, axis=2).repeat(model.patch_size, axis=3)
    figure, axes = canvas(1.1 * len(images), 3.6, 3, len(images))
    for column, (image, looks) in enumerate(zip(images, maps, strict=True)):
        axes[0, column].imshow(image)
        for row, look in enumerate(looks, 1):
            axes[row, column].imshow(image.mean(axis=-1), cmap="gray")
            axes[row, column].imshow(look, cmap="magma", alpha=0.65)
    for axis, name in zip(axes[:, 0], ("image", "class token", "distillation\ntoken"), strict=True):
        axis.set_ylabel(name)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    save(figure, path)


def contact_sheet(images, labels, class_names, path, columns=8):
    """Draws a batch as the model sees it: each image, and what its label says of it.

    Args:
        images: float32 (batch, height, width, 3), normalised.
        labels: (batch, num_classes), smoothed and mixed.
        class_names: what to call the classes.
        path: the PNG to write.
    """
    pixels = np.clip(np.asarray(images) * np.array(STD) + np.array(MEAN), 0, 1)
    columns = min(columns, len(pixels))
    rows = -(-len(pixels) // columns)
    figure, axes = canvas(1.6 * columns, 1.95 * rows, rows, columns)
    axes = np.atleast_1d(axes).reshape(-1)
    for axis, image, label in zip(axes, pixels, np.asarray(labels), strict=False):
        axis.imshow(image)
        axis.set_title(_mixture(label, class_names), fontsize=7, parse_math=False)
    for axis in axes:
        axis.axis("off")
    save(figure, path)


def _mixture(label, class_names):
    """The one or two classes that a label is mostly of, with their weights as they are trained on,
    smoothing included."""
    best = np.argsort(-label, kind="stable")[:2]
    shown = [i for i in best if label[i] > 0.05] or best[:1]
    names = (name.encode("utf-8", "replace").decode() for name in class_names)
    names = dict(enumerate(names))
    return "\n".join(f"{names[i][:18]} {label[i]:.2f}" for i in shown)


def canvas(width, height, rows=1, columns=1):
    """A figure and its axes, of so many inches."""
    # Not pyplot's: it would look for a screen and keep the figure.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def save(figure, path):
    """Writes the PNG, whole or not at all."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in no font's script
        atomic_write(path, lambda partial: figure.savefig(partial, dpi=120))


def _column(path, name):
    with open(path, newline="") as lines:
        return [float(row[name]) for row in csv.DictReader(lines)]
