"""Three steps of one configuration on any engine, for tests/test_engines.py, which starts a process
for each: python -m tests.engines OUTPUT KIND DEVICES PROCESS ADDRESSES"""

import contextlib
import json
import os
import sys

ROWS, CLASSES = (15, 15, 9), 5  # of the batches: the last is smaller
CASES = {
    "adamw": {"optimizer": "adamw"},
    "published": {"optimizer": "adamw", "epsilon": 1e-8},
    "sgd": {"optimizer": "sgd"},
    "xla": {"optimizer": "adamw", "jit_compile": True},
    "bfloat16": {"optimizer": "adamw", "precision": "mixed_bfloat16"},
}


def begin(kind, devices, process, addresses):
    """Sets up the engine, and gives the context in which models are made."""
    addresses = addresses.split(",") if addresses else []
    if kind == "jax":
        os.environ["KERAS_BACKEND"], os.environ["JAX_PLATFORMS"] = "jax", "cpu"
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
        if addresses:
            os.environ["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = ",".join(addresses)
            os.environ["KERAS_DISTRIBUTION_NUM_PROCESSES"] = str(len(addresses))
            os.environ["KERAS_DISTRIBUTION_PROCESS_ID"] = str(process)
    elif addresses:
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": process}}
        os.environ["TF_CONFIG"] = json.dumps(cluster)
    import keras_deit as kd
    from keras_deit import strategies

    single = kind == "tensorflow" and not addresses
    name = "single" if single else "mirrored" if kind == "mirrored" else "auto"
    recipe = kd.Recipe("", "deit_digits", strategy=name, batch_size=512)
    strategies.join(recipe)
    return strategies.scope(recipe)


def batches(process, count, rows):
    """The process' share of every batch; on JAX of one size."""
    import numpy as np
    import tensorflow as tf

    import keras_deit as kd

    rng = np.random.default_rng(0)
    images = rng.normal(size=(sum(ROWS), 24, 16, 3)).astype("float32")
    labels = rng.dirichlet(np.ones(CLASSES), len(images)).astype("float32")
    whole = tf.data.Dataset.from_tensor_slices((images, labels)).batch(ROWS[0])
    if not rows:
        return whole  # which tf.distribute divides
    part = slice(process * rows // count, (process + 1) * rows // count)
    return kd.data.padded(whole, rows).map(lambda *batch: tuple(x[part] for x in batch))


def model(kind, case, steps=len(ROWS), **changes):
    import keras
    import numpy as np

    import keras_deit as kd

    options = {"epsilon": 1e-3, **CASES[case]}
    row = kd.Recipe(
        "",
        "deit_digits",
        lr=1e-3,
        min_lr=1e-3,
        batch_size=512,
        warmup_epochs=0,
        epochs=1,
        ema=0.9,
        clip_norm=1.0,
        weight_decay=0.5,
        optimizer=options["optimizer"],
    )
    keras.utils.set_random_seed(0)  # processes must agree
    keras.config.set_dtype_policy(options.get("precision", "float32"))
    rng = np.random.default_rng(1)
    teacher = keras.Sequential(
        [keras.Input((24, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    )
    student = kind((24, 16), patch_size=8, width=12, depth=2, heads=3, num_classes=CLASSES)
    for each in (student, teacher):
        each.set_weights([rng.normal(scale=0.3, size=x.shape) for x in each.get_weights()])
    optimizer = kd.optimizer(row, steps)
    optimizer.epsilon = options["epsilon"]
    student.compile(
        changes.get("optimizer", optimizer),
        kd.loss(row),
        weighted_metrics=["accuracy"],
        distillation=kd.Distillation(teacher),
        jit_compile=options.get("jit_compile", "auto"),
    )
    return student


def main():
    output, kind, devices, process, addresses, *cases = sys.argv[1:]
    devices, process = int(devices), int(process)
    count = len(addresses.split(",")) if addresses else 1
    with begin(kind, devices, process, addresses) as scope:
        del scope
        import numpy as np

        import keras_deit as kd
        from keras_deit import replicas

        rows = 0
        if kind == "jax":
            rows = ROWS[0] if devices * count == 1 else 16
        found = {}
        for case in cases:
            student = model(kd.DeiT, case)
            before = student.get_weights()
            data = batches(process, count, rows)
            logs = student.fit(data, verbose=0, shuffle=False).history
            values = student.evaluate(batches(process, count, rows), verbose=0, return_dict=True)
            found[f"{case}/logs"] = [logs[name][0] for name in sorted(logs)]
            found[f"{case}/scores"] = [values[name] for name in sorted(values)]
            averages = [np.array(x) for x in student.optimizer.averages]
            for number, value in enumerate([*student.get_weights(), *averages]):
                found[f"{case}/weights/{number:03}"] = value
                found[f"{case}/start/{number:03}"] = before[number % len(before)]
        found["replicas"] = replicas.count()
        with contextlib.suppress(FileExistsError):
            np.savez(f"{output}-{process}.npz", **found)


if __name__ == "__main__":
    main()
