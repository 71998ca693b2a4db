"""What ``model_benchmark.py`` measured: a table, a file of figures and a chart."""

import os
import time

import numpy as np

from keras_deit.evaluation import plots
from keras_deit.utils import tables
from keras_deit.utils.files import atomic_write_json, atomic_write_text

BASELINE = "timm eager"
MATRIX = 2048  # side of the matrices whose product gives the rate of the machine


def table(contenders):
    """Markdown, a row per contender."""
    rates = {precision: matrix_rate(precision) for precision in ("float32", "bfloat16")}
    header = ["", "im/s", f"over {BASELINE}", "first step", "peak memory", "of the matrix rate"]
    rows = []
    for contender in contenders:
        settings = contender.settings
        achieved = operations(settings) * contender.images_per_second
        rows.append(
            [
                f"{settings.mode}, {settings.precision}: {contender.name}",
                f"{contender.images_per_second:.1f}",
                ratio(contender, contenders),
                f"{contender.first_step:.0f} s",
                f"{contender.peak:.2f} GiB",
                f"{achieved / rates[settings.precision]:.0%}",
            ]
        )
    measured = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in rates.items())
    first = contenders[0].settings
    return (
        f"{first.variant}, {first.batch} images a step, {os.cpu_count()} cores; product of two"
        f" {MATRIX}x{MATRIX} matrices: {measured}\n\n{tables.markdown(header, rows)}"
    )


def ratio(contender, contenders):
    """The contender's speed over the baseline's in the same mode and precision."""
    baseline = [
        other
        for other in contenders
        if other.name == BASELINE
        and other.settings.mode == contender.settings.mode
        and other.settings.precision == contender.settings.precision
    ]
    if not baseline:
        return "-"

    return ratio_text(contender, baseline[0])


def ratio_text(contender, baseline):
    """The ratio of two medians, and the lowest and highest ratio of a round."""
    ratios = np.divide(baseline.step_seconds, contender.step_seconds)
    median = contender.images_per_second / baseline.images_per_second
    return f"{median:.2f} ({ratios.min():.2f} to {ratios.max():.2f})"


def operations(settings):
    """Floating-point operations of an image's matrix products; a training step has three times as
    many."""
    from keras_deit.configs.variants import VARIANTS

    row = VARIANTS[settings.variant]
    patches = (row.image_size // row.patch_size) ** 2
    tokens = patches + 1 + row.distilled
    projections = (4 + 2 * row.mlp_ratio) * row.width**2 * tokens
    attention = 2 * tokens**2 * row.width
    embedding = patches * 3 * row.patch_size**2 * row.width
    products = row.depth * (projections + attention) + embedding
    return 2 * products * (3 if settings.mode == "training" else 1)


def matrix_rate(precision):
    """Operations per second of this machine in products of large matrices, with TensorFlow."""
    import tensorflow as tf

    matrix = tf.cast(tf.random.normal((MATRIX, MATRIX)), precision)
    product = tf.function(lambda x: tf.matmul(x, x), autograph=False)
    product(matrix)

    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        product(matrix).numpy()
        seconds.append(time.perf_counter() - start)
    return 2 * MATRIX**3 / min(seconds)


def write(folder, text, contenders):
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / "model.md", f"{text}\n")
    atomic_write_json(folder / "model.json", figures(contenders))
    plot(contenders, folder / "model.png")


def figures(contenders):
    """What was measured, as JSON holds it."""
    return [
        {
            **vars(contender.settings),
            "name": contender.name,
            "images_per_second": contender.images_per_second,
            "step_seconds": contender.step_seconds,
            "first_step_seconds": contender.first_step,
            "peak_gib": contender.peak,
        }
        for contender in contenders
    ]


def plot(contenders, path):
    """Bars of images per second, a plot for each mode and precision."""
    groups = {}
    for contender in contenders:
        settings = contender.settings
        groups.setdefault((settings.mode, settings.precision), []).append(contender)

    figure, axes = plots.canvas(3.2 * len(groups), 3.2, 1, len(groups))
    for axis, (group, members) in zip(np.atleast_1d(axes), groups.items(), strict=True):
        names = [member.name.replace("keras_deit ", "") for member in members]
        colors = ["C0" if m.settings.library == "keras_deit" else "C7" for m in members]
        rates = [member.images_per_second for member in members]
        axis.bar_label(axis.barh(names, rates, color=colors), fmt="%.1f", padding=3)
        axis.set(title=", ".join(group), xlabel="images per second")
        axis.margins(x=0.2)
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    plots.save(figure, path)
