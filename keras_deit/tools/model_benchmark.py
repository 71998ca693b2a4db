"""How fast a model infers and trains here, beside the other libraries that are installed."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys

from keras_deit.tools import model_report
from keras_deit.tools.contenders import Settings
from keras_deit.utils import logs, tables
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import atomic_write_json, atomic_write_text

STUDENT = "deit_tiny_distilled_patch16_224"
TEACHERS = {"no teacher": "none", "stored targets": "stored", "live teacher": "live"}
VARIANT = "deit_small_distilled_patch16_224"
ROUNDS = 5
ROUND_SECONDS = 8.0  # so many steps are a round that the slowest contender takes about this long

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

    text = model_report.table(results)
    print(text)
    if output is not None:
        model_report.write(pathlib.Path(output), text, results)


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
            model_report.ratio_text(contender, plain),
            model_report.ratio_text(contender, live),
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
        atomic_write_json(folder / "distillation.json", model_report.figures(contenders))


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
