"""Takes the same three training steps on every engine: python -m tests.programs.engines

Prints how far the weights and their moving average are from those of one device: AdamW with
clipping and a warm start, distillation, an uneven last batch. Each engine has its own processes.
"""

import contextlib
import importlib.util
import pathlib
import sys
import tempfile

import numpy as np

from tests.forks import Forks
from tests.programs.clusters import environments, run_together

ROWS, CLASSES = (15, 15, 9), 5  # of the batches: the last is smaller
ENGINES = {  # kind, devices of each process, processes
    "one device": ("tensorflow", 1, 1),
    "two replicas": ("mirrored", 2, 1),
    "two workers": ("tensorflow", 1, 2),
    "JAX, one device": ("jax", 1, 1),
    "JAX, two devices": ("jax", 2, 1),
    "JAX, four devices": ("jax", 4, 1),
    "JAX, two processes": ("jax", 1, 2),
}
if importlib.util.find_spec("torch"):  # it is optional
    ENGINES["torch, one device"] = ("torch", 1, 1)
CHECKED = "adamw"  # the case that every engine has to match
CASES = {  # what differs from the recipe; epsilon is AdamW's
    "adamw": {"epsilon": 1e-3},
    "xla": {"epsilon": 1e-3, "jit_compile": True},
    "bfloat16": {"epsilon": 1e-3, "precision": "mixed_bfloat16"},
    "published": {},
    "accumulated": {"epsilon": 1e-3, "accumulate": 3},
    "doubled": {"epsilon": 1e-3, "wrong": "gradients"},
    "clipped apart": {"epsilon": 1e-3, "wrong": "clipping"},
}


def run(forks, engine, cases, folder):
    """The results of an engine's processes, which ``Forks`` starts: a dict of arrays for each."""
    kind, devices, count = ENGINES[engine]
    output = pathlib.Path(folder) / engine
    commands = [
        (["-m", "tests.programs.engines", f"{output} {index}.npz", kind, *cases], environ)
        for index, environ in enumerate(environments(backend_of(kind), devices, count))
    ]
    for process in run_together(forks, commands, timeout=600):
        if process.returncode:
            raise SystemExit((process.stdout + process.stderr)[-3000:])
    return [dict(np.load(f"{output} {index}.npz")) for index in range(count)]


def backend_of(kind):
    return kind if kind in ("jax", "torch") else "tensorflow"


def distance(results, expected, case):
    """The largest difference of a weight, and of a tensor relative to the tensor's movement."""
    largest, relative = 0, 0
    for name in results:
        if name.startswith(f"{case}/weights/"):
            # Other ways to the same steps, and wrong steps, are compared with the first case.
            reference = case if case in ("adamw", "bfloat16", "published") else "adamw"
            other = name.replace(case, reference)
            error = results[name] - expected[other]
            largest = max(largest, np.abs(error).max())
            moved = np.linalg.norm(expected[other] - expected[other.replace("weights", "start")])
            relative = max(relative, np.linalg.norm(error) / moved)
    return largest, relative


def main(output, kind, *cases):
    from keras_deit.distribution import Strategy, processes, replicas

    if kind == "torch":  # it has one device, and no strategies
        scope, device_count = contextlib.nullcontext(), 1
    else:
        strategy = Strategy("mirrored" if kind == "mirrored" else "auto")
        scope, device_count = strategy.scope(), strategy.device_count

    with scope:
        results = {"devices": device_count}
        for case in cases:
            model = _model(case, device_count)
            before = model.get_weights()
            batches = _batches(kind, device_count)
            logs = model.fit(batches, verbose=0, shuffle=False).history
            results[f"{case}/logs"] = [logs[name][0] for name in sorted(logs)]
            if case == CHECKED:
                scores = model.evaluate(batches, verbose=0, return_dict=True)
                results[f"{case}/scores"] = [scores[name] for name in sorted(scores)]
            averages = [np.array(x) for x in model.optimizer.averages]
            for number, value in enumerate([*model.get_weights(), *averages]):
                results[f"{case}/weights/{number:03}"] = value
                results[f"{case}/start/{number:03}"] = before[number % len(before)]
            if case == "xla" and replicas.count() > 1:
                results["compiled"] = _products(model)
        processes.wait()
    np.savez(output, **results)


def _batches(kind, device_count):
    """The process' rows of every batch; on JAX all batches have one size."""
    import tensorflow as tf

    import keras_deit as kd
    from keras_deit.distribution import processes

    rng = np.random.default_rng(0)
    images = rng.normal(size=(sum(ROWS), 24, 16, 3)).astype("float32")
    labels = rng.dirichlet(np.ones(CLASSES), len(images)).astype("float32")
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(ROWS[0])
    if kind != "jax" or device_count == 1:
        return batches  # which tf.distribute divides
    rows = 16 // processes.count()
    own = slice(processes.index() * rows, (processes.index() + 1) * rows)
    return kd.data.padded(batches, 16).map(lambda *batch: tuple(x[own] for x in batch))


def _model(case, device_count):
    import keras

    import keras_deit as kd

    options = CASES[case]
    row = kd.Recipe(
        "",
        "deit_digits",
        lr=1e-3,  # from step one on
        min_lr=1e-3,
        batch_size=512,
        warmup_epochs=0,
        epochs=1,
        ema=0.9,
        clip_norm=0.5,  # in the second step and the third
        weight_decay=0.5,
    )
    keras.utils.set_random_seed(0)  # processes must agree
    keras.config.set_dtype_policy(options.get("precision", "float32"))
    rng = np.random.default_rng(1)
    teacher = keras.Sequential(
        [keras.Input((24, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    )
    kind = _doubled() if options.get("wrong") == "gradients" else kd.DeiT
    model = kind((24, 16), patch_size=8, width=12, depth=2, heads=3, num_classes=CLASSES)
    for each in (model, teacher):
        each.set_weights([rng.normal(scale=0.3, size=x.shape) for x in each.get_weights()])
    optimizer = kd.optimizer(row, len(ROWS))
    optimizer.epsilon = options.get("epsilon", optimizer.epsilon)
    if options.get("wrong") == "clipping":
        optimizer.__class__ = _clips_apart(type(optimizer))
    accumulate = options.get("accumulate", 1)
    if accumulate > 1 and device_count > 1:
        accumulate += 1  # of 16 rows, not 15: the last micro-batches have zero-weight images
    model.compile(
        optimizer,
        kd.loss(row),
        weighted_metrics=["accuracy"],
        distillation=kd.Distillation(teacher),
        accumulate=accumulate,
        jit_compile=options.get("jit_compile", "auto"),
    )
    return model


def _doubled():
    import keras_deit as kd

    class Doubled(kd.DeiT):
        def _gradients(self, *batch):
            return [2 * gradient for gradient in super()._gradients(*batch)]

    return Doubled


def _clips_apart(kind):
    """A class that clips as Keras does: each replica's gradients, before they are summed."""
    import keras

    own = keras.optimizers.AdamW

    class ClipsApart(kind):
        _backend_apply_gradients = own._backend_apply_gradients
        _all_reduce_sum_gradients = own._all_reduce_sum_gradients

    return ClipsApart


def _products(model):
    """The number of matrix products in the program that XLA makes for each replica."""
    import tensorflow as tf

    batch = tf.zeros((4, 24, 16, 3)), tf.zeros((4, CLASSES)), None, tf.constant(8.0)
    strategy = tf.distribute.get_strategy()
    program = strategy.run(
        lambda: model._differentiate.experimental_get_compiler_ir(*batch)(stage="hlo")
    )
    return [text.count(" dot(") for text in strategy.experimental_local_results(program)]


def table():
    cases = ["adamw", "bfloat16", "published"]
    print("| | " + " | ".join(cases) + " |")
    print("| --- |" + " ---: |" * len(cases), flush=True)
    with tempfile.TemporaryDirectory() as folder, Forks() as forks:
        firsts = {}
        for engine, (kind, *_) in ENGINES.items():
            results = run(forks, engine, cases, folder)[0]
            first = firsts.setdefault(backend_of(kind), results)
            cells = []
            for case in cases:  # each backend rounds bfloat16 in its own way
                expected = first if case == "bfloat16" else firsts["tensorflow"]
                largest, relative = distance(results, expected, case)
                cells.append(f"{largest:.0e}, {relative:.1%}" if results is not expected else "-")
            print(f"| {engine} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[1:] else table()
