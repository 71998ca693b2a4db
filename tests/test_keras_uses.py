"""What works on any Keras model works on this library's, on the backend that Keras runs on.

A row of the table is one use. Most are run twice, with a DeiT and with a plain functional Keras
model of the same layers and weights, and must give the same weights, histories and outputs. The
others, which a plain model does not have, return a pair that must be equal.

The suite runs the rows of TensorFlow, and some of JAX's in a separate process. KERAS_BACKEND=jax
and KERAS_BACKEND=torch run all rows of these backends.
"""

import copy
from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deit as kd
from keras_deit.utils.keras_private import all_layers

BACKEND = keras.backend.backend()
ALL = frozenset({"tensorflow", "jax", "torch"})
SIDE = 16
IMAGES = np.random.default_rng(0).normal(size=(12, SIDE, SIDE, 3)).astype("float32")
SPARSE = np.arange(12) % 5
LABELS = np.eye(5, dtype="float32")[SPARSE]
WEIGHTS = np.array([1, 2, 0, 1, 0.5, 1, 1, 3, 0, 0, 1, 1], "float32")
BATCH = 4


# What the suite runs on JAX too, where each row takes long to compile: the uses that depend on the
# backend's own training step and variables. KERAS_BACKEND=jax runs all rows.
ON_JAX = (
    "compiled training on arrays",
    "training on a PyDataset of one-hot labels and weights",
    "sample weights, in Keras' mean over images",
    "a batch without weight",
    "SwapEMAWeights",
    "a global policy of mixed precision",
    "deepcopy",
    "LoRA, saved and loaded",
    "int8, saved and loaded or refused",
    "summary and sizes",
    "kd.evaluate",
)


@dataclass(frozen=True)
class Use:
    """A row of the table.

    Attributes:
        run: a function of a model and an empty folder. Its result, any nest of arrays, is compared
            with that for the plain model; without one, it is (result, expected result).
        backends: those that have this use.
        has_plain: whether a plain Keras model has it too.
        policy: the global dtype policy.
        tolerance: relative and absolute, of the comparison.
    """

    run: callable
    backends: frozenset = ALL
    has_plain: bool = True
    policy: str = "float32"
    tolerance: float = 2e-6


USES = {}


def use(name, **fields):
    """Adds a function to the table as the use of a name."""

    def add(run):
        assert name not in USES
        USES[name] = Use(run, **fields)
        return run

    return add


def deit():
    return kd.DeiT(SIDE, patch_size=8, width=12, depth=1, heads=3, num_classes=5)


def plain_like(model):
    """A functional Keras model of a DeiT's function and weights, which trains as Keras does."""
    inner = deit()
    inner.set_weights(model.get_weights())
    images = keras.Input((SIDE, SIDE, 3))
    return keras.Model(images, inner(images))


def compiled(model, loss=None, optimizer=None, **options):
    """Compiled eagerly, unless told otherwise: most uses do not depend on the compiler."""
    options = {"metrics": ["accuracy"], "run_eagerly": True, **options}
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss or kd.loss(), **options)
    return model


def fit(model, images=IMAGES, labels=LABELS, **options):
    """The weights and the history of a training."""
    options = {"shuffle": False, "verbose": 0, **options}
    if isinstance(images, np.ndarray):
        options = {"batch_size": BATCH, **options}
    history = model.fit(images, labels, **options).history
    return {"weights": model.get_weights(), "history": history}


def without_losses(result):
    """A result of ``fit`` with sample weights and the mean over them, without the losses: Keras
    averages those over batches by their images, this library by their weights."""
    history = {name: values for name, values in result["history"].items() if "loss" not in name}
    return {**result, "history": history}


def sparse_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def keras_loss():
    """With the reduction that Keras has by default."""
    return keras.losses.CategoricalCrossentropy(from_logits=True)


# Data and labels.


class Batches(keras.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return tuple(array[BATCH * index : BATCH * (index + 1)] for array in self.arrays)


@use("compiled training on arrays")
def _(model, folder):
    return fit(compiled(model, run_eagerly=False), epochs=2)


@use("training by XLA", backends=frozenset({"tensorflow", "jax"}))
def _(model, folder):
    return fit(compiled(model, run_eagerly=False, jit_compile=True))


@use("several steps per execution", backends=frozenset({"tensorflow", "jax"}))
def _(model, folder):
    return fit(compiled(model, run_eagerly=False, steps_per_execution=3))


@use("training on a tf.data dataset of sparse labels")
def _(model, folder):
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, SPARSE)).batch(BATCH)
    return fit(compiled(model, sparse_loss()), dataset, None)


@use("training on a PyDataset of one-hot labels and weights")
def _(model, folder):
    compiled(model, weighted_metrics=["accuracy"])
    return without_losses(fit(model, Batches(IMAGES, LABELS, WEIGHTS), None))


@use("training on a generator")
def _(model, folder):
    batches = Batches(IMAGES, LABELS)
    generator = (batches[number % 3] for number in range(6))
    return fit(compiled(model), generator, None, steps_per_epoch=3, epochs=2)


@use("a smaller last batch")
def _(model, folder):
    return fit(compiled(model), IMAGES[:10], LABELS[:10])


@use("sparse labels of one column")
def _(model, folder):
    return fit(compiled(model, sparse_loss()), labels=SPARSE[:, None])


@use("sample weights, in a mean over them")
def _(model, folder):
    compiled(model, weighted_metrics=["accuracy"])
    return without_losses(fit(model, sample_weight=WEIGHTS))


@use("sample weights, in Keras' mean over images")
def _(model, folder):
    options = {"validation_data": (IMAGES, LABELS, WEIGHTS), "validation_batch_size": BATCH}
    return fit(compiled(model, keras_loss()), sample_weight=WEIGHTS, **options)


@use("a sum of losses")
def _(model, folder):
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
    return fit(compiled(model, loss, keras.optimizers.SGD(0.01)))


@use("class weights")
def _(model, folder):
    return fit(compiled(model, keras_loss()), class_weight={0: 0.0, 1: 2.0, 2: 1.0, 3: 1.0, 4: 0.5})


@use("a batch without weight")
def _(model, folder):
    labels = LABELS.copy()
    labels[:BATCH] = np.eye(5)[0]
    weights = {0: 0.0, 1: 1, 2: 1, 3: 1, 4: 1}
    return fit(compiled(model, keras_loss()), labels=labels, class_weight=weights)


@use("an ignored class")
def _(model, folder):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    return fit(compiled(model, loss, metrics=[]), labels=SPARSE)


@use("a part of the arrays for validation")
def _(model, folder):
    return fit(compiled(model), validation_split=0.25, epochs=2)


@use("single batches")
def _(model, folder):
    compiled(model)
    results = [model.train_on_batch(IMAGES, LABELS), model.test_on_batch(IMAGES, LABELS)]
    return [*results, model.predict_on_batch(IMAGES), model.get_weights()]


@use("evaluation and prediction")
def _(model, folder):
    compiled(model, run_eagerly=False)
    scores = model.evaluate(IMAGES, LABELS, BATCH, verbose=0, return_dict=True)
    return scores, model.predict(IMAGES, BATCH, verbose=0)


@use("frozen layers")
def _(model, folder):
    for layer in all_layers(model):
        if layer.name in ("patch_embed", "tokens", "blocks.0"):
            layer.trainable = False
    return fit(compiled(model)), len(model.trainable_weights)


@use("AdamW with clipping, decay and gradient accumulation")
def _(model, folder):
    optimizer = keras.optimizers.AdamW(
        1e-3, epsilon=1e-3, clipnorm=1.0, gradient_accumulation_steps=3
    )
    return fit(compiled(model, optimizer=optimizer))


# Callbacks.


@use("ModelCheckpoint of the best weights")
def _(model, folder):
    path = str(folder / "best.weights.h5")
    callback = keras.callbacks.ModelCheckpoint(
        path, monitor="loss", save_best_only=True, save_weights_only=True
    )
    result = fit(compiled(model), epochs=2, callbacks=[callback])
    model.load_weights(path)
    return result, model.get_weights()


@use("ModelCheckpoint of the model")
def _(model, folder):
    path = str(folder / "{epoch}.keras")
    fit(compiled(model), epochs=2, callbacks=[keras.callbacks.ModelCheckpoint(path)])
    models = [keras.saving.load_model(folder / f"{epoch}.keras") for epoch in (1, 2)]
    return [model.predict(IMAGES, verbose=0) for model in models]


@use("EarlyStopping with restored weights")
def _(model, folder):
    callback = keras.callbacks.EarlyStopping(
        "val_loss", min_delta=10, patience=2, restore_best_weights=True, start_from_epoch=1
    )
    return fit(
        compiled(model), epochs=9, callbacks=[callback], validation_data=(IMAGES[:4], LABELS[:4])
    )


class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


@use("BackupAndRestore")
def _(model, folder):
    def backup():
        return keras.callbacks.BackupAndRestore(folder / "backup")

    start = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        fit(compiled(model), epochs=3, callbacks=[backup(), Stop()])
    model.set_weights(start)
    return fit(compiled(model), epochs=3, callbacks=[backup()])


@use("SwapEMAWeights")
def _(model, folder):
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    callback = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    validation = IMAGES[:4], LABELS[:4]
    return fit(
        compiled(model, optimizer=optimizer),
        epochs=2,
        callbacks=[callback],
        validation_data=validation,
    )


@use("TensorBoard")
def _(model, folder):
    result = fit(compiled(model), callbacks=[keras.callbacks.TensorBoard(folder, 1)])
    assert list(folder.rglob("events.out.tfevents.*"))
    return result["history"]


@use("ReduceLROnPlateau and CSVLogger")
def _(model, folder):
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=10)
    logger = keras.callbacks.CSVLogger(folder / "log.csv")
    result = fit(compiled(model), epochs=3, callbacks=[plateau, logger])
    names = (folder / "log.csv").read_text().splitlines()[0].split(",")
    return result, np.array([name in names for name in ("loss", "accuracy", "learning_rate")])


# Policies.


@use("a global policy of mixed precision", policy="mixed_bfloat16", tolerance=2e-2)
def _(model, folder):
    assert {layer.compute_dtype for layer in all_layers(model)} == {"bfloat16"}
    return fit(compiled(model)), model.predict(IMAGES, verbose=0).astype("float32")


@use("a model's own policy", has_plain=False)
def _(model, folder):
    mixed = type(model).from_config({**model.get_config(), "dtype": "mixed_bfloat16"})
    mixed.set_weights(model.get_weights())
    assert {layer.compute_dtype for layer in all_layers(mixed)} == {"bfloat16"}
    mixed.save(folder / "mixed.keras")
    loaded = keras.saving.load_model(folder / "mixed.keras")
    outputs = [*map(keras.ops.convert_to_numpy, mixed.logits(IMAGES)), mixed(IMAGES)]
    again = [*map(keras.ops.convert_to_numpy, loaded.logits(IMAGES)), loaded(IMAGES)]
    return again, outputs


# Copies and parts.


@use("clone_model")
def _(model, folder):
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return fit(compiled(clone)), model.get_weights()


@use("deepcopy")
def _(model, folder):
    fit(compiled(model))
    clone = copy.deepcopy(model)
    return fit(compiled(clone)), model.get_weights()


@use("get_config and from_config")
def _(model, folder):
    clone = type(model).from_config(model.get_config())
    clone.set_weights(model.get_weights())
    return clone.predict(IMAGES, verbose=0)


@use("a layer of a Sequential model")
def _(model, folder):
    layers = [keras.Input((SIDE, SIDE, 3)), model, keras.layers.Activation("softmax")]
    return fit(compiled(keras.Sequential(layers), keras.losses.CategoricalCrossentropy()))


@use("a functional model between other layers")
def _(model, folder):
    images = keras.Input((SIDE, SIDE, 3))
    scaled = keras.layers.Rescaling(0.5)(images)
    outer = keras.Model(images, keras.layers.Rescaling(2.0)(model(scaled)))
    result = fit(compiled(outer))
    outer.save(folder / "outer.keras")
    return result, keras.saving.load_model(folder / "outer.keras").predict(IMAGES, verbose=0)


@use("each frame of a video")
def _(model, folder):
    frames = keras.Input((3, SIDE, SIDE, 3))
    outer = keras.Model(frames, keras.layers.TimeDistributed(model)(frames))
    result = outer.predict(IMAGES.reshape(4, 3, SIDE, SIDE, 3), verbose=0)
    return result, model.predict(IMAGES, verbose=0)


@use("feature extraction", has_plain=False)
def _(model, folder):
    images = keras.Input((SIDE, SIDE, 3))
    features = keras.Model(images, model.head_features(images))
    return features.predict(IMAGES, verbose=0), model.head_features(IMAGES)


@use("a functional model of images of any size", has_plain=False)
def _(model, folder):
    images = keras.Input((None, None, 3))
    wrapped = keras.Model(images, model(images))
    assert wrapped.output_shape == (None, 5)
    with pytest.raises(kd.UserError, match=r"images of shape .*: expected"):
        wrapped(np.zeros((4, SIDE, 2 * SIDE, 3), "float32"))
    return wrapped.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0)


@use("gradients of the images", backends=frozenset({"tensorflow"}))
def _(model, folder):
    images = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = keras_loss()(LABELS, model(images))
    return tape.gradient(loss, images)


class Doubled(kd.DeiT):
    def call(self, images, training=False):
        return 2 * super().call(images, training=training)


@use("a subclass that overrides call", has_plain=False)
def _(model, folder):
    doubled = Doubled(**model.fields)
    doubled.set_weights(model.get_weights())
    outputs = 2 * model.predict(IMAGES, verbose=0)
    expected = float(keras_loss()(LABELS, outputs))

    loss = compiled(doubled, keras_loss()).evaluate(IMAGES, LABELS, verbose=0)[0]
    scores = kd.evaluate(doubled, (IMAGES, SPARSE))
    assert scores["distillation"] is None
    if BACKEND == "tensorflow":
        with pytest.raises(kd.UserError, match=r"Doubled overrides call, and kd\.export writes"):
            kd.export(doubled, folder / "model.onnx")
    assert not list(folder.glob("*.onnx"))
    return [loss, scores["fused"].loss, doubled.predict(IMAGES, verbose=0)], [
        *(expected, expected),
        outputs,
    ]


@use("integer pixels", has_plain=False)
def _(model, folder):
    messages = []
    for each in (model, kd.build("regnety_digits")):
        with pytest.raises(kd.UserError) as error:
            each.features(np.zeros((2, SIDE, SIDE, 3), "uint8"))
        messages.append(str(error.value).split(":")[0])
    assert set(messages) == {"images of uint8"}
    return [0], [0]


# Adapters and quantization.


def with_lora(model):
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.Dense):
            layer.enable_lora(2)
            layer.lora_kernel_b.assign(np.full(layer.lora_kernel_b.shape, 0.1))
    return model


@use("LoRA, trained", has_plain=False)
def _(model, folder):
    frozen = [weight.numpy() for weight in model.head.weights[:1]] if BACKEND != "torch" else []
    fit(compiled(with_lora(model)))
    return [keras.ops.convert_to_numpy(model.head._kernel)][: len(frozen)], frozen


@use("LoRA, saved and loaded", has_plain=False)
def _(model, folder):
    expected = with_lora(model).predict(IMAGES, verbose=0)
    model.save(folder / "lora.keras")
    loaded = keras.saving.load_model(folder / "lora.keras")
    assert loaded.head.lora_enabled
    return loaded.predict(IMAGES, verbose=0), expected


@use("LoRA, merged in weight files", has_plain=False)
def _(model, folder):
    expected = with_lora(model).predict(IMAGES, verbose=0)
    kd.save_pretrained(model, folder / "model.safetensors")
    return kd.load(folder / "model.safetensors").predict(IMAGES, verbose=0), expected


@use("int8, saved and loaded or refused", has_plain=False)
def _(model, folder):
    model.quantize("int8")
    expected = model.predict(IMAGES, verbose=0)
    try:
        model.save(folder / "int8.keras")
    except kd.UserError as error:
        return [str(error).count("\n")], [0]
    return keras.saving.load_model(folder / "int8.keras").predict(IMAGES, verbose=0), expected


# Files and texts.


@use("saved and loaded after training")
def _(model, folder):
    fit(compiled(model))
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    expected = model.predict(IMAGES, verbose=0)
    loaded = keras.saving.load_model(folder / "model.keras")
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    model.load_weights(folder / "model.weights.h5")
    np.testing.assert_allclose(loaded.predict(IMAGES, verbose=0), expected, rtol=1e-6, atol=1e-6)
    return expected, model.predict(IMAGES, verbose=0)


@use("export after training", backends=frozenset({"tensorflow"}))
def _(model, folder):
    fit(compiled(model))
    model.export(folder / "exported", verbose=False)
    expected = model.predict(IMAGES, verbose=0)
    loaded = tf.saved_model.load(folder / "exported")  # its functions do not keep its variables
    np.testing.assert_allclose(loaded.serve(IMAGES), expected, rtol=1e-5, atol=1e-6)
    return expected


@use("kd.export after training", backends=frozenset({"tensorflow"}), has_plain=False)
def _(model, folder):
    fit(compiled(model))
    kd.export(model, folder / "exported")
    serve = tf.saved_model.load(folder / "exported").signatures["serving_default"]
    logits = serve(images=tf.constant(IMAGES))["logits"]
    return logits, model.predict(IMAGES, verbose=0)


@use("summary and sizes")
def _(model, folder):
    lines = []
    model.summary(print_fn=lines.append)
    text = "\n".join(map(str, lines))
    assert "?" not in text
    assert "Total params" in text
    return model.count_params(), [weight.shape for weight in model.weights]


@use("kd.evaluate")
def _(model, folder):
    class_scores = kd.evaluate(model, (IMAGES, SPARSE, WEIGHTS))["fused"]
    return class_scores.top1, class_scores.top5, class_scores.loss


# Distillation.


@use("distillation on every container", has_plain=False)
def _(model, folder):
    images = keras.Input((SIDE, SIDE, 3))
    features = keras.layers.GlobalAveragePooling2D()(images)
    teacher = keras.Model(images, keras.layers.Dense(5, kernel_initializer="ones")(features))
    start = model.get_weights()
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, SPARSE)).batch(BATCH)
    results = []
    for data in ((IMAGES, SPARSE), (dataset, None), (Batches(IMAGES, SPARSE), None)):
        model.set_weights(start)
        distillation = kd.Distillation(teacher, "soft", tau=3)
        results.append(fit(compiled(model, sparse_loss(), distillation=distillation), *data))
    return results[1:], results[:1] * 2


def assert_close(actual, expected, tolerance):
    keras.tree.assert_same_structure(actual, expected)
    pairs = zip(keras.tree.flatten(actual), keras.tree.flatten(expected), strict=True)
    for one, other in pairs:
        one, other = map(keras.ops.convert_to_numpy, (one, other))
        assert np.isfinite(np.asarray(other, "float32")).all()
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:keras")
@pytest.mark.parametrize("name", [name for name, row in USES.items() if BACKEND in row.backends])
def test_a_use_of_any_keras_model(name, tmp_path):
    row = USES[name]
    (tmp_path / "plain").mkdir()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(row.policy)
    try:
        keras.utils.set_random_seed(0)
        model = deit()
        plain = plain_like(model) if row.has_plain else None
        result = row.run(model, tmp_path)
        if row.has_plain:
            result = result, row.run(plain, tmp_path / "plain")
    finally:
        keras.config.set_dtype_policy(before)
    assert_close(*result, row.tolerance)


def test_rows_name_backends_and_jax_has_its_own():
    assert all(row.backends and row.backends <= ALL for row in USES.values())
    assert all("jax" in USES[name].backends for name in ON_JAX)


if BACKEND == "tensorflow":

    @pytest.mark.slow
    def test_uses_on_jax(forks):
        tests = [f"{__file__}::test_a_use_of_any_keras_model[{name}]" for name in ON_JAX]
        arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        done = forks.run(arguments, environ={"KERAS_BACKEND": "jax"})
        assert not done.returncode, done.stdout[-4000:]
