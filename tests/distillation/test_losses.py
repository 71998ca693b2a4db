"""The distillation loss and its metrics, and which teachers fit a student."""

import keras
import numpy as np
import pytest

import keras_deit as kd
from keras_deit.configs.preprocessing import IMAGENET, Preprocessing

X = np.random.default_rng(0).normal(size=(8, 24, 16, 3)).astype("float32")
Y = np.eye(5, dtype="float32")[np.arange(8) % 5]


def teacher(classes=5, size=(24, 16), softmax=False):
    layers = [keras.Input((*size, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(classes)]
    return keras.Sequential(layers + [keras.layers.Softmax()] * softmax, name="convnet")


def gray():
    images = keras.Input((24, 16, 1))
    return keras.Model(images, keras.layers.Dense(5)(keras.layers.Flatten()(images)))


@pytest.mark.parametrize(
    ("kind", "reduction", "key"),
    [
        ("hard", "batch", "hard"),
        ("soft", "batch", "soft_batch"),
        ("soft", "elements", "soft_elements"),
    ],
)
def test_losses_match_the_official_formulas(golden, kind, reduction, key):
    truth = golden("losses")
    distillation = kd.Distillation(None, kind, 0.3, float(truth["tau"]), reduction)
    ours = distillation.distillation_loss(truth["head"], truth["teacher"])
    np.testing.assert_allclose(ours, truth[key], rtol=1e-5)
    label_loss = kd.loss(kd.RECIPES["digits_none"])(truth["labels"], truth["student"])
    np.testing.assert_allclose(label_loss, truth["label_loss"], rtol=1e-5)
    total = distillation.loss(label_loss, ours)
    np.testing.assert_allclose(total, 0.7 * truth["label_loss"] + 0.3 * truth[key], rtol=1e-5)


def test_sample_weights_apply_to_the_distillation_loss(golden):
    truth = golden("losses")
    distillation = kd.Distillation(None, "hard")
    first_three = distillation.distillation_loss(truth["head"][:3], truth["teacher"][:3])
    weights = np.array([1, 1, 1, 0, 0, 0], "float32")
    weighted = distillation.distillation_loss(truth["head"], truth["teacher"], weights)
    np.testing.assert_allclose(weighted, first_three, rtol=1e-5)  # zero weights do not count


def fit_logs(student, distillation, **options):
    optimizer = keras.optimizers.SGD(0.1)
    student.compile(
        optimizer,
        kd.loss(None),
        metrics=["accuracy"],
        distillation=distillation,
        **options,
    )
    return student.fit(X, Y, batch_size=8, epochs=1, verbose=0).history


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_step_changes_only_the_student(tiny, kind):
    convnet = teacher()
    before = [np.array(v) for v in convnet.weights]
    start = [np.array(v) for v in tiny.trainable_weights]
    logs = fit_logs(tiny, kd.Distillation(convnet, kind))
    for now, then in zip(convnet.weights, before, strict=True):
        np.testing.assert_array_equal(now, then)  # batch statistics too: inference mode
    for now, then in zip(tiny.trainable_weights, start, strict=True):
        assert np.abs(np.array(now) - then).max() > 0, now.path
    assert logs.keys() == {"loss", "class_loss", "distillation_loss", "agreement", "accuracy"}
    assert logs["loss"][0] == pytest.approx(
        (logs["class_loss"][0] + logs["distillation_loss"][0]) / 2, rel=1e-5
    )


@pytest.mark.slow
def test_metrics_match_the_step(tiny):
    convnet = teacher()
    heads = [np.array(head) for head in tiny.logits(X)]
    decisions = np.array(convnet(X, training=False)).argmax(axis=1)
    logs = fit_logs(tiny, kd.Distillation(convnet))
    assert logs["agreement"][0] == pytest.approx(np.mean(heads[1].argmax(axis=1) == decisions))
    assert logs["accuracy"][0] == pytest.approx(np.mean(sum(heads).argmax(1) == Y.argmax(1)))


@pytest.mark.slow
def test_each_head_learns_from_its_own_teacher(tiny):
    head, dist = np.array(tiny.head.kernel), np.array(tiny.head_dist.kernel)
    fit_logs(tiny, kd.Distillation(teacher(), alpha=1.0))
    np.testing.assert_array_equal(tiny.head.kernel, head)
    assert np.abs(np.array(tiny.head_dist.kernel) - dist).max() > 0
    head, dist = np.array(tiny.head.kernel), np.array(tiny.head_dist.kernel)
    fit_logs(tiny, kd.Distillation(teacher(), alpha=0.0))
    np.testing.assert_array_equal(tiny.head_dist.kernel, dist)
    assert np.abs(np.array(tiny.head.kernel) - head).max() > 0


@pytest.mark.slow
def test_integer_labels_train_with_a_sparse_loss(tiny):
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    tiny.compile("sgd", sparse, metrics=["accuracy"], distillation=kd.Distillation(teacher()))
    logs = tiny.fit(X, Y.argmax(axis=1), batch_size=4, verbose=0).history
    assert np.isfinite(logs["loss"][0])


def test_without_distillation_the_fused_logits_learn(tiny):
    logs = fit_logs(tiny, None)
    assert logs.keys() == {"loss", "accuracy"}


def test_the_students_file_does_not_hold_the_teacher(tiny, tmp_path):
    fit_logs(tiny, kd.Distillation(teacher()))
    count = len(tiny.weights)
    tiny.save(tmp_path / "student.keras")
    again = keras.saving.load_model(tmp_path / "student.keras")
    assert len(again.weights) == count
    assert b"convnet" not in (tmp_path / "student.keras").read_bytes()
    np.testing.assert_array_equal(again(X), tiny(X))


def nested(outputs):
    """A teacher that gives its logits in a structure."""
    images = keras.Input((24, 16, 3))
    return keras.Model(images, outputs(keras.layers.Dense(5)(keras.layers.Flatten()(images))))


@pytest.mark.parametrize(
    ("make_teacher", "message"),
    [
        (lambda: "convnet", "teacher 'convnet': expected a Keras model"),
        (lambda: gray(), "does not take the student's 24x16 images"),
        (lambda: teacher(classes=7), "7 classes and the student 5"),
        (lambda: teacher(size=(32, 32)), "does not take the student's 24x16 images"),
        (lambda: keras.Sequential([keras.Input((24, 16, 3)), keras.layers.Flatten()]), "classes"),
        (lambda: keras.Sequential([keras.Input((24, 16, 3)), keras.layers.ReLU()]), "one output"),
        (
            lambda: nested(lambda x: {"logits": x}),
            r"gives {'logits': \(None, 5\)}: exp",
        ),
        (lambda: nested(lambda x: [x]), r"gives \[\(None, 5\)\]: expected one output"),
    ],
)
def test_a_mismatched_teacher_is_refused_before_training(tiny, make_teacher, message):
    with pytest.raises(kd.UserError, match=message):
        tiny.compile("sgd", distillation=kd.Distillation(make_teacher()))


def test_a_teacher_of_the_students_own_layers_is_refused(tiny):
    images = keras.Input((24, 16, 3))
    teacher = keras.Model(images, keras.layers.Dense(5)(tiny.features(images)[:, 0]))
    for shares in (teacher, tiny):
        with pytest.raises(kd.UserError, match=r"teacher .* shares \d+ variables with the student"):
            tiny.compile("sgd", kd.loss(), distillation=kd.Distillation(shares))

    tiny.compile("sgd", kd.loss(), distillation=kd.Distillation(keras.models.clone_model(tiny)))


def test_a_convnet_is_no_student():
    student = kd.build("regnety_digits")
    with pytest.raises(kd.UserError, match="RegNetY cannot be distilled: expected a DeiT student"):
        student.compile("sgd", kd.loss(), distillation=kd.Distillation(None, "label"))


@pytest.mark.parametrize("kind", ["hard", "soft", "label"])
def test_a_student_of_one_class_is_refused(kind):
    student = kd.DeiT((24, 16), patch_size=8, width=12, depth=1, heads=3, num_classes=1)
    distillation = kd.Distillation(teacher(classes=1) if kind != "label" else None, kind)
    with pytest.raises(kd.UserError, match="a student of one class cannot be distilled"):
        student.compile("sgd", "binary_crossentropy", distillation=distillation)


class Halved(kd.DeiT):
    """A subclass with another output."""

    def call(self, images, training=False):
        return super().call(images, training=training) / 2


@pytest.mark.slow
def test_a_subclass_with_its_own_call_trains_through_it():
    keras.utils.set_random_seed(0)
    student = Halved((24, 16), patch_size=8, width=12, depth=1, heads=3, num_classes=5)
    images = keras.Input((24, 16, 3))
    functional = keras.Model(images, keras.models.clone_model(student)(images))
    functional.set_weights(student.get_weights())

    losses = []
    for model in (student, functional):
        model.compile(keras.optimizers.SGD(1.0), kd.loss())
        losses.append(model.fit(X, Y, batch_size=4, shuffle=False, verbose=0).history["loss"])
        losses.append(model.evaluate(X, Y, verbose=0))
    np.testing.assert_allclose(losses[0], losses[2], rtol=1e-5)
    np.testing.assert_allclose(losses[1], losses[3], rtol=1e-5)
    for ours, keras_own in zip(student.get_weights(), functional.get_weights(), strict=True):
        np.testing.assert_allclose(ours, keras_own, atol=1e-6)

    with pytest.raises(kd.UserError, match="Halved overrides call, and distillation trains what"):
        student.compile("sgd", kd.loss(), distillation=kd.Distillation(teacher()))


def test_distillation_without_a_loss_is_refused(tiny):
    """On JAX Keras would train on a loss of zero."""
    with pytest.raises(kd.UserError, match="distillation without a loss of the labels"):
        tiny.compile("sgd", distillation=kd.Distillation(teacher()))


def test_a_teacher_with_softmax_distills_hard_but_not_soft(tiny):
    tiny.compile("sgd", kd.loss(), distillation=kd.Distillation(teacher(softmax=True)))
    with pytest.raises(kd.UserError, match="ends in a softmax"):
        tiny.compile("sgd", distillation=kd.Distillation(teacher(softmax=True), "soft"))


def test_a_student_without_the_token_is_refused():
    student = kd.DeiT(16, patch_size=8, width=12, depth=1, heads=3, distilled=False)
    with pytest.raises(kd.UserError, match="no distillation head"):
        student.compile("sgd", distillation=kd.Distillation(teacher()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "warm"}, "hard, soft"),
        ({"alpha": 1.5}, r"expected a fraction in \[0, 1\]"),
        ({"tau": 0}, "above 0"),
        ({"reduction": "sum"}, "batch, elements"),
    ],
)
def test_wrong_settings_are_refused(fields, message):
    with pytest.raises(kd.UserError, match=message):
        kd.Distillation(None, **fields)


@pytest.mark.slow
def test_any_classifier_teaches_through_adapt(tiny):
    convnet = teacher(softmax=True)
    adapted = kd.adapt(convnet, (24, 16), scale=2, offset=-1, probabilities=True)
    pixels = X * np.float32([0.229, 0.224, 0.225]) + np.float32([0.485, 0.456, 0.406])
    expected = np.array(convnet(pixels * 2 - 1, training=False))
    logits = np.array(adapted(X))
    np.testing.assert_allclose(np.exp(logits), expected, atol=1e-6)
    fit_logs(tiny, kd.Distillation(adapted, "soft"))


@pytest.mark.parametrize("adapted", [False, True])
def test_a_teacher_gets_its_own_images_and_the_students_classes(adapted):
    """The teacher's logits are those of the pixels it expects, in the student's class order."""
    half = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.25, 0.5))
    pixels = np.random.default_rng(0).random((2, 24, 16, 3)).astype("float32")
    images = (pixels - np.float32(half.mean)) / np.float32(half.std)
    student = kd.DeiT((24, 16), 8, 12, 1, 3, num_classes=5, preprocessing=half)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)

    if adapted:  # its pixels are in [-1, 1]
        model = teacher()
        expected = model(pixels * 2 - 1, training=False)
        distillation = kd.Distillation(kd.adapt(model, (24, 16), scale=2, offset=-1))
    else:
        student.class_names = tuple("edcba")
        model = kd.DeiT((24, 16), 8, 12, 1, 3, num_classes=5, class_names=tuple("abcde"))
        normalized = (pixels - np.float32(IMAGENET.mean)) / np.float32(IMAGENET.std)
        expected = np.array(model(normalized))[:, ::-1]
        distillation = kd.Distillation(model)

    student.compile("adam", loss, distillation=distillation)
    np.testing.assert_allclose(distillation.target(images, None), expected, atol=2e-5)


def test_a_teacher_of_other_classes_is_refused(tiny):
    tiny.class_names = tuple("abcde")
    other = kd.DeiT((24, 16), 8, 12, 1, 3, num_classes=5, class_names=tuple("vwxyz"), name="other")
    with pytest.raises(kd.UserError, match=r"teacher other has 5 classes \(v, w, x, ...\) and the"):
        tiny.compile("adam", kd.loss(), distillation=kd.Distillation(other))
