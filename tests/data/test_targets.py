"""Stored targets: their encoding, and that they are refused for other views than their own."""

import dataclasses
import json

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.data import targets
from keras_deit.data.samples import VIEW_FIELDS, Samples
from keras_deit.data.stored_targets import describe_views
from keras_deit.utils.files import atomic_write_safetensors, sha256
from tests.conftest import recipe


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(scale=4, size=(64, 50)).astype("float32")


def test_hard_targets_keep_the_decision_in_two_bytes(logits):
    arrays = targets.encode(logits, "hard", top_k=3)
    assert {name: array.nbytes for name, array in arrays.items()} == {"classes": 2 * 64}
    decoded = targets.decode(arrays, 50)
    np.testing.assert_array_equal(decoded.argmax(-1), logits.argmax(-1))
    np.testing.assert_array_equal(decoded.sum(-1), 1)


def test_more_classes_than_two_bytes_hold():
    logits = np.zeros((2, 2**16 + 1), np.float32)
    logits[1, -1] = 1
    arrays = targets.encode(logits, "hard", top_k=3)
    assert arrays["classes"].dtype == np.uint32
    assert arrays["classes"].tolist() == [0, 2**16]


def test_soft_targets_keep_the_largest_probabilities_and_the_rest(logits):
    arrays = targets.encode(logits, "soft", top_k=5)
    assert {name: array.nbytes for name, array in arrays.items()} == {
        "classes": 64 * 5 * 2,
        "log_probabilities": 64 * 5 * 2,
        "log_rest": 64 * 2,
    }
    decoded, expected = log_softmax(targets.decode(arrays, 50)), log_softmax(logits)
    order = np.argsort(-expected, axis=-1)
    for k in range(5):  # float16 has 11 bits
        index = order[:, k : k + 1]
        kept, true = (np.take_along_axis(x, index, -1) for x in (decoded, expected))
        np.testing.assert_allclose(kept, true, rtol=1e-3, atol=2e-3)
    rest = np.take_along_axis(np.exp(decoded), order[:, 5:], -1)
    true = np.take_along_axis(np.exp(expected), order[:, 5:], -1).sum(-1)
    np.testing.assert_allclose(rest.sum(-1), true, rtol=3e-3)
    np.testing.assert_allclose(rest, rest[:, :1] * np.ones(45), rtol=1e-5)


def test_soft_targets_of_all_classes_are_the_teachers(logits):
    for top_k in (50, 60):
        decoded = targets.decode(targets.encode(logits, "soft", top_k), 50)
        np.testing.assert_allclose(log_softmax(decoded), log_softmax(logits), rtol=1e-3, atol=2e-3)


def test_of_equal_logits_the_first_is_the_decision():
    logits = np.float32([[1, 3, 3, 3]])
    for kind in ("hard", "soft"):
        decoded = targets.decode(targets.encode(logits, kind, 2), 4)
        assert decoded.argmax(-1) == [1]


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_rounding_does_not_change_a_close_decision(top_k):
    logits = np.float32([[1, 1.00001, -3], [1, 1, 1.00001]])
    decoded = targets.decode(targets.encode(logits, "soft", top_k), 3)
    np.testing.assert_array_equal(decoded.argmax(-1), logits.argmax(-1))


def test_extreme_logits_stay_finite():
    logits = np.float32([[1e30, -1e30, 0], [0, -200, -1e5]])
    for top_k in (1, 3):
        decoded = targets.decode(targets.encode(logits, "soft", top_k), 3)
        assert np.isfinite(decoded).all()
    for wrong in ([np.nan, 0], [np.inf, 0], [-np.inf, -np.inf]):
        for kind in ("hard", "soft"):
            with pytest.raises(kd.UserError, match="the teacher gives NaN or infinity"):
                targets.encode(np.float32([wrong]), kind, 1)


def test_views_depend_on_no_other_fields(data_dir):
    """Every field of a recipe that a sample reads is among those that targets are checked by."""
    read = set()

    class Recording(kd.Recipe):
        def __getattribute__(self, name):
            read.add(name)
            return super().__getattribute__(name)

    row = Recording(**dataclasses.asdict(recipe()))
    samples = Samples(row, data_dir)
    read.clear()
    samples.make_group(0, 0, 0)
    checked = {*VIEW_FIELDS, "seed", "data_seed", "target_epochs"}
    assert read - checked == {"label_smoothing"}  # which is of the labels


def write(folder, samples, **changes):
    """Targets of zeros of two epochs, as ``kd.label`` writes them."""
    folder.mkdir()
    shape = (samples.steps, samples.batch_size)
    for epoch in range(2):
        arrays = {"classes": np.zeros(shape, np.uint16)}
        atomic_write_safetensors(targets.epoch_file(folder, epoch), arrays, {})
    description = {
        "format": targets.FORMAT,
        "version": kd.__version__,
        "kind": "hard",
        "epochs": 2,
        "teachers": [{"name": "digits_teacher", "file": None, "weights": ""}],
        "views": describe_views(samples),
        "files": {str(epoch): sha256(targets.epoch_file(folder, epoch)) for epoch in range(2)},
    }
    targets.write_description(folder, {**description, **changes})


def change(folder, **values):
    targets.write_description(folder, {**targets.read_description(folder), **values})


@pytest.fixture
def stored(tmp_path, data_dir):
    folder = tmp_path / "targets"
    write(folder, Samples(recipe(), data_dir))
    return folder


def batches(folder, data_dir, *settings):
    return kd.data.train(recipe("digits_hard", f"targets={folder}", *settings), data_dir)


def test_targets_come_with_the_labels(stored, data_dir):
    _, labels = next(iter(batches(stored, data_dir)))
    assert sorted(labels) == ["labels", "targets"]
    assert labels["labels"].shape == labels["targets"].shape == (60, 10)
    assert (labels["targets"].numpy().argmax(-1) == 0).all()


def test_an_epoch_begins_at_any_step_with_its_targets(stored, data_dir):
    path = targets.epoch_file(stored, 1)
    classes = np.arange(180, dtype=np.uint16).reshape(3, 60) % 10
    atomic_write_safetensors(path, {"classes": classes}, {})
    change(stored, files={"0": sha256(targets.epoch_file(stored, 0)), "1": sha256(path)})

    row = recipe("digits_hard", f"targets={stored}")
    resumed = kd.data.train(row, data_dir, first_epoch=1, first_step=1)
    read = [labels["targets"].numpy().argmax(-1) for _, labels in resumed]
    np.testing.assert_array_equal(read, classes[1:])


def test_each_process_gets_the_targets_of_its_rows(tmp_path, data_dir):
    row = recipe("digits_hard", "mix_group=30")
    samples = Samples(row, data_dir)
    write(tmp_path / "targets", samples)
    path = targets.epoch_file(tmp_path / "targets", 0)
    classes = np.arange(180, dtype=np.uint16).reshape(3, 60) % 7
    atomic_write_safetensors(path, {"classes": classes}, {})
    change(
        tmp_path / "targets",
        files={str(i): sha256(path.with_stem(f"epoch-000{i}")) for i in (0, 1)},
    )

    row = kd.override(row, [f"targets={tmp_path / 'targets'}"])
    whole = next(iter(kd.data.train(row, data_dir)))
    half = next(iter(kd.data.train(row, data_dir, process=(1, 2))))
    np.testing.assert_array_equal(half[0], whole[0][30:])
    np.testing.assert_array_equal(half[1]["targets"], whole[1]["targets"][30:])
    assert (half[1]["targets"].numpy().argmax(-1) == classes[0, 30:]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["seed=1"], "other views: seed 0 there, 1 in this recipe"),
        (["data_seed=2"], "other views: seed 0 there, 2 in this recipe"),
        (["batch_size=30"], "batch_size 60 there, 30 in this recipe"),
        (["flip=0.5"], "flip 0.0 there, 0.5 in this recipe"),
        (["erasing=0.5"], "erasing 0.0 there, 0.5 in this recipe"),
        (["mixup=0"], "mixup 0.8 there, 0.0 in this recipe"),
        (["image_size=16"], "image_size 8 there, 16 in this recipe"),
        (["train_fraction=0.2"], "train_fraction 0.1 there, 0.2 in this recipe"),
        (["dataset=digits/0to4"], "dataset 'digits' there, 'digits/0to4' in this recipe"),
        (["upright=true"], "'upright': False} there, {.*'upright': True} in this recipe"),
        (["epochs=3"], "are of 2 epochs, and epochs is 3: expected target_epochs=2"),
        (["target_epochs=4"], "are of 2 epochs, and target_epochs is 4"),
        (["teacher=regnety_160"], "another teacher: digits_teacher there, regnety_160 in this"),
        (["distillation=soft"], "are hard decisions: expected distillation=hard"),
    ],
)
def test_targets_of_other_views_are_refused(settings, message, stored, data_dir):
    with pytest.raises(kd.UserError, match=message) as raised:
        batches(stored, data_dir, *settings)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "settings", [["teacher=none"], ["epochs=1"], ["epochs=9", "target_epochs=2"]]
)
def test_other_settings_are_not(settings, stored, data_dir):
    assert batches(stored, data_dir, *settings).steps == 3


def test_changed_truncated_and_missing_files_are_refused(stored, data_dir):
    path = targets.epoch_file(stored, 1)
    content = path.read_bytes()
    for wrong in (content[:-1], content[:-1] + b"\x01", b""):
        path.write_bytes(wrong)
        with pytest.raises(kd.UserError, match=rf"{path} was changed after it was written"):
            batches(stored, data_dir)

    path.unlink()
    with pytest.raises(kd.UserError, match=rf"cannot read {path}: No such file"):
        batches(stored, data_dir)
    change(stored, files={})
    with pytest.raises(kd.UserError, match="unfinished, 2 of 2 epochs are missing"):
        batches(stored, data_dir)


@pytest.mark.parametrize(
    "values",
    [{"kind": "soft"}, {"epochs": 1}, {"epochs": float("inf")}, {"teachers": None}, {"views": []}],
)
def test_an_edited_description_is_refused(values, stored, data_dir):
    path = stored / targets.DESCRIPTION
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(kd.UserError, match=rf"{path} was changed after it was written: restore"):
        batches(stored, data_dir)
    path.write_text("[" * 100_000)
    with pytest.raises(kd.UserError, match=rf"{path} was not written by kd.label"):
        batches(stored, data_dir)


def test_unfinished_steps_are_of_the_same_targets_and_unchanged(tmp_path):
    path, description = tmp_path / "unfinished.safetensors", {"kind": "hard", "files": {}}
    steps = [{"classes": np.uint16([step, 1])} for step in range(3)]
    targets.write_steps(path, steps, description)
    read = targets.read_steps(path, {**description, "files": {"0": ""}})
    np.testing.assert_equal(read, steps)
    assert targets.read_steps(path, {**description, "teachers": []}) == []

    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert targets.read_steps(path, description) == []
    for other in ({"x": np.zeros(2)}, {"classes": np.zeros((2, 3, 4), np.uint16)}):
        atomic_write_safetensors(path, other, {"format": targets.FORMAT})
        assert targets.read_steps(path, description) == []


def test_other_images_and_folders_are_refused(stored, data_dir, tmp_path):
    views = json.loads((stored / targets.DESCRIPTION).read_text())["views"]
    colors = (np.array(views["colors"]) + 0.1).tolist()
    change(stored, views={**views, "colors": colors})
    with pytest.raises(kd.UserError, match="of other images: the first views have the mean colors"):
        batches(stored, data_dir)

    (stored / targets.DESCRIPTION).write_text("{}")
    with pytest.raises(kd.UserError, match=r"targets.json was not written by kd.label"):
        batches(stored, data_dir)
    with pytest.raises(kd.UserError, match=r"no targets in .*: expected a folder that python -m"):
        batches(tmp_path, data_dir)


def test_epochs_of_views_are_seen_in_turn(data_dir):
    samples = Samples(recipe("digits_none", "target_epochs=2"), data_dir)
    own = Samples(recipe("digits_none"), data_dir)
    for epoch, shown in ((0, 0), (1, 1), (2, 0), (5, 1)):
        for some, others in zip(
            samples.make_group(epoch, 1, 0), own.make_group(shown, 1, 0), strict=True
        ):
            np.testing.assert_array_equal(some, others)


def test_the_datas_seed_may_differ_from_the_runs(data_dir):
    some = Samples(recipe("digits_none", "seed=5", "data_seed=0"), data_dir).make_group(0, 0, 0)
    others = Samples(recipe("digits_none"), data_dir).make_group(0, 0, 0)
    np.testing.assert_array_equal(some[0], others[0])
