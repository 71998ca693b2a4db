"""How fast a model infers and trains here, beside the other libraries that are installed."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

from keras_deit.evaluation import plots
from keras_deit.tools.contenders import Settings
from keras_deit.utils import logs, tables
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import atomic_write_json, atomic_write_text

STUDENT = "deit_tiny_distilled_patch16_224"
TEACHERS = {"no teacher": "none", "stored targets": "stored", "live teacher": "live"}
VARIANT = "deit_small_distilled_patch16_224"
ROUNDS = 5
ROUND_SECONDS = 8.0  # so many steps are a round that the slowest contender takes about this long
MATRIX = 2048  # side of the matrices whose product gives the rate of the machine

# The ways of each library: (backend of Keras or None, compiler).
WAYS = {
    "keras_deit": (
        ("tensorflow", "auto"),
        ("tensorflow", "graph"),
        ("tensorflow", "xla"),
        ("tensorflow", "recompute"),  # in training
        ("jax", "auto"),
    ),
    "keras_hub": (("tensorflow", "auto"), ("jax", "auto")),
    "timm": ((None, "eager"), (None, "compile")),
    "transformers": ((None, "eager"),),
}
BASELINE = "timm eager"


@dataclasses.dataclass
class Contender:
    """A process that takes steps when it is told to."""

    name: str
    settings: Settings
    process: subprocess.Popen
    first_step: float  # seconds to build the model and take a step
    step_seconds: list[float] = dataclasses.field(default_factory=list)  # of each round
    peak: float = 0.0  # GiB

    def take(self, steps):
        """Takes steps, and notes how long one took."""
        self.step_seconds.append(float(_ask(self, str(steps))) / steps)

    @property
    def images_per_second(self):
        """The median over rounds."""
        return self.settings.batch / statistics.median(self.step_seconds)


def model(variant=VARIANT, batch=16, rounds=ROUNDS, output=None, only=()):
    """Prints images per second of inference and training in float32 and bfloat16.

    Each contender is a separate process. They take their rounds in turn, so that a slow minute of
    the machine is one for all. A ratio is that of medians over rounds, and in parentheses the
    lowest and highest ratio of a round.

    Args:
        variant: str. A published DeiT. Default "deit_small_distilled_patch16_224".
        batch: int. Images in a step. Default 16.
        rounds: int. Default 5.
        output: str, path or None. A folder for ``model.md``, ``model.json`` and ``model.png``.
        only: tuple of str. Parts of the contenders' names to measure. Default: all.

    Raises:
        UserError: none of the contenders is installed, or one of them fails.
    """
    results = []
    for mode in ("inference", "training"):
        for precision in ("float32", "bfloat16"):
            names = [
                name
                for name in _names()
                if (not only or any(part in name for part in only))
                and (mode == "training" or not name.endswith("recompute"))
            ]
            settings = {
                name: Settings(name.split()[0], variant, mode, precision, name.split()[-1], batch)
                for name in names
            }
            results += _compare(settings, rounds)

    text = _table(results)
    print(text)
    if output is not None:
        _write(pathlib.Path(output), text, results)


def distillation(variant=STUDENT, batch=8, rounds=ROUNDS, output=None):
    """Prints images per second of training without a teacher, with stored targets, and with a live
    RegNetY-16GF, in float32, taken in turn as in ``model``.

    Args:
        variant: str. A published distilled DeiT. Default "deit_tiny_distilled_patch16_224".
        batch: int. Images in a step. Default 8.
        rounds: int. Default 5.
        output: str, path or None. A folder for ``distillation.md`` and ``distillation.json``.

    Raises:
        UserError: one of the processes fails.
    """
    settings = {
        f"keras_deit tensorflow, {title}": Settings(
            "keras_deit", variant, "training", "float32", batch=batch, teacher=teacher
        )
        for title, teacher in TEACHERS.items()
    }
    if importlib.util.find_spec("timm") is not None:
        settings["timm, live teacher"] = Settings(
            "timm", variant, "training", "float32", "eager", batch, teacher="live"
        )
    contenders = _compare(settings, rounds)

    plain, _, live, *_ = contenders
    header = ["", "im/s", "over no teacher", "over our live teacher", "peak memory"]
    rows = [
        [
            contender.name,
            f"{contender.images_per_second:.2f}",
            _ratio_text(contender, plain),
            _ratio_text(contender, live),
            f"{contender.peak:.2f} GiB",
        ]
        for contender in contenders
    ]
    text = f"{variant}, {batch} images a step, float32, {os.cpu_count()} cores"
    text = f"{text}\n\n{tables.markdown(header, rows)}"
    print(text)
    if output is not None:
        folder = pathlib.Path(output)
        atomic_write_text(folder / "distillation.md", f"{text}\n")
        atomic_write_json(folder / "distillation.json", _figures(contenders))


def _names():
    """What can be measured here: "keras_deit tensorflow auto", "timm eager" ..."""
    names = []
    for library, ways in WAYS.items():
        if importlib.util.find_spec(library) is None:
            continue
        for backend, compiler in ways:
            if backend is None or importlib.util.find_spec(backend) is not None:
                names.append(" ".join(filter(None, (library, backend, compiler))))
    return names


def _compare(settings, rounds):
    """The finished contenders of one mode and precision."""
    contenders = []
    try:
        for name, wanted in settings.items():
            logs.info(f"starting {name}: {wanted.mode}, {wanted.precision}")
            contender = _start(name, wanted)
            if contender is not None:
                contenders.append(contender)

        # One untimed step shows how many make a round.
        for contender in contenders:
            contender.take(1)
        slowest = max((c.step_seconds.pop() for c in contenders), default=1.0)
        steps = max(1, round(ROUND_SECONDS / slowest))

        for number in range(rounds):
            logs.info(f"round {number + 1} of {rounds}: {steps} steps each")
            for contender in contenders:
                contender.take(steps)
        for contender in contenders:
            _finish(contender)
    finally:
        for contender in contenders:
            contender.process.kill()
            contender.process.communicate()
    return contenders


def _start(name, settings):
    """A contender after its first step; None if its library has no such mode."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if settings.library in ("keras_deit", "keras_hub"):
        environment["KERAS_BACKEND"] = name.split()[1].strip(",")
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_deit.tools.contenders", json.dumps(vars(settings))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    contender = Contender(name, settings, process, 0.0)
    answer = process.stdout.readline().split()
    if answer[:1] != ["ready"]:
        error = process.stderr.read().strip().splitlines() or ["no answer"]
        if not error[-1].startswith("error: "):
            raise UserError(f"{name} failed: {error[-1]}")
        logs.info(error[-1])
        return None
    contender.first_step = float(answer[1])
    return contender


def _ask(contender, line):
    contender.process.stdin.write(f"{line}\n")
    contender.process.stdin.flush()
    answer = contender.process.stdout.readline()
    if not answer:
        error = contender.process.stderr.read().strip().splitlines() or ["no answer"]
        raise UserError(f"{contender.name} failed: {error[-1]}")
    return answer


def _finish(contender):
    contender.process.stdin.close()
    contender.peak = float(contender.process.stdout.readline().split()[1])
    contender.process.stdin = None  # so that nothing writes to it any more


def _table(contenders):
    """Markdown, a row per contender."""
    rates = {precision: matrix_rate(precision) for precision in ("float32", "bfloat16")}
    header = ["", "im/s", f"over {BASELINE}", "first step", "peak memory", "of the matrix rate"]
    rows = []
    for contender in contenders:
        settings = contender.settings
        operations = _operations(settings) * contender.images_per_second
        rows.append(
            [
                f"{settings.mode}, {settings.precision}: {contender.name}",
                f"{contender.images_per_second:.1f}",
                _ratio(contender, contenders),
                f"{contender.first_step:.0f} s",
                f"{contender.peak:.2f} GiB",
                f"{operations / rates[settings.precision]:.0%}",
            ]
        )
    measured = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in rates.items())
    first = contenders[0].settings
    return (
        f"{first.variant}, {first.batch} images a step, {os.cpu_count()} cores; product of two"
        f" {MATRIX}x{MATRIX} matrices: {measured}\n\n{tables.markdown(header, rows)}"
    )


def _ratio(contender, contenders):
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

    return _ratio_text(contender, baseline[0])


def _ratio_text(contender, baseline):
    """The ratio of two medians, and the lowest and highest ratio of a round."""
    ratios = np.divide(baseline.step_seconds, contender.step_seconds)
    median = contender.images_per_second / baseline.images_per_second
    return f"{median:.2f} ({ratios.min():.2f} to {ratios.max():.2f})"


def _operations(settings):
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


def _write(folder, text, contenders):
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / "model.md", f"{text}\n")
    atomic_write_json(folder / "model.json", _figures(contenders))
    _plot(contenders, folder / "model.png")


def _figures(contenders):
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


def _plot(contenders, path):
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
