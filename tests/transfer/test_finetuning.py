"""Fine-tuning: recipes of tasks, new heads, teachers, frozen layers, class names, predictions."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import keras_deit as kd
from keras_deit.training.from_recipe import learning_rate
from keras_deit.weights.names import variables
from tests.conftest import TINY
from transfer import TASKS, finetune, recipe

SHORT = (*TINY, "run_eagerly=true", "train_fraction=0.111")
TASK = "digits_5to9"


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The file of a distilled DeiT that knows five other digits."""
    keras.utils.set_random_seed(4)
    model = kd.build("deit_digits_distilled", num_classes=5)
    model.class_names = tuple("01234")
    path = tmp_path_factory.mktemp("start") / "start.keras"
    model.save(path)
    return str(path)


def test_rates_are_the_authors_after_scaling_and_notes_name_their_source():
    scaled = {
        name: learning_rate(recipe(TASKS[name], "deit_base_patch16_224"))
        for name in ("cifar10", "cifar100", "i_naturalist2018", "i_naturalist2019", "cars196")
    }
    expected = [7.5e-6, 5e-6, 7.5e-5, 7.5e-5, 0.015]
    np.testing.assert_allclose(list(scaled.values()), expected)

    for name, task in TASKS.items():
        row = recipe(task, "deit_base_patch16_224")
        assert row.min_lr < learning_rate(row), name
        assert (row.start, row.new_heads, row.classes) == (row.variant, True, task.classes), name
        assert all(field in row.note for field in task.published_settings), name
        assert all(field in row.note for field in task.our_settings), name
    distilled = recipe(TASKS["cifar100"], "deit_base_distilled_patch16_224")
    assert "published 91.3 (Table 7)" in distilled.note
    assert "published settings: epochs, batch_size" in distilled.note
    assert "our settings: min_lr" in distilled.note


def test_recipes_depend_on_model_and_resolution():
    def row(task, model, *overrides):
        return recipe(TASKS[task], model, overrides)

    model = "deit_base_patch16_224"
    base = row("cifar10", model)
    assert row("cifar10", "deit_tiny_patch16_224").lr == 4 * base.lr
    assert row("cifar10", "deit_small_patch16_224").lr == 2 * base.lr
    assert row("cars196", "deit_tiny_patch16_224").lr == row("cars196", model).lr  # SGD

    large = row("cifar10", "deit_base_patch16_384")
    assert (base.batch_size, large.batch_size, large.image_size) == (768, 512, 384)
    assert row("cifar10", model, "image_size=384").batch_size == 512
    assert row("cifar10", model, "image_size=384", "batch_size=64").batch_size == 64

    assert row("cifar10", "deit_base_distilled_patch16_224").distillation == "label"
    assert base.distillation == row("cifar10", "regnety_160").distillation == "none"
    assert row(TASK, "deit_digits").start is None  # nothing is published to start from


def test_recipes_know_the_variant_and_shape_of_a_file(start, tmp_path, monkeypatch):
    convnet = str(tmp_path / "convnet.keras")
    kd.build("regnety_digits", num_classes=5).save(convnet)
    other = str(tmp_path / "other.keras")
    kd.DeiT((12, 12), 4, width=12, depth=1, heads=2, num_classes=3).save(other)
    narrow = str(tmp_path / "narrow.keras")
    kd.DeiT((8, 12), 4, width=12, depth=1, heads=2, num_classes=3).save(narrow)

    monkeypatch.setattr(kd, "load", None)  # nothing may be loaded to learn a shape
    rows = [recipe(TASKS[TASK], file) for file in (start, convnet, other)]
    assert [row.variant for row in rows] == ["deit_digits_distilled", "regnety_digits", None]
    assert [row.image_size for row in rows] == [8, 224, 12]
    assert [row.distillation for row in rows] == ["label", "none", "label"]
    assert [row.start for row in rows] == [start, convnet, other]

    with pytest.raises(kd.UserError, match=r"8x12 pixels: expected --set=image_size="):
        recipe(TASKS[TASK], narrow)
    assert recipe(TASKS[TASK], narrow, ["image_size=16"]).image_size == 16

    foreign = str(tmp_path / "foreign.keras")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(foreign)
    with pytest.raises(kd.UserError, match=r"expected a DeiT or RegNetY|expected variant="):
        recipe(TASKS[TASK], foreign)


@pytest.mark.parametrize(
    ("task", "model", "overrides", "message"),
    [
        ("birds", "deit_digits", (), "unknown task 'birds': expected cifar10, .* or folder:<path>"),
        (TASK, "no.keras", (), "no file no.keras: expected a checkpoint file or one of deit_tiny"),
        (TASK, "deit_digits", ("lr=x",), "expected a number"),
        (
            TASK,
            "deit_digits",
            ("distillation=hard",),
            "expected a teacher or targets with soft or hard",
        ),
        (TASK, "deit_digits", ("distillation=label",), "no distillation head"),
        (TASK, "regnety_digits", ("trainable=attention",), "RegNetY has no attention"),
        (TASK, "deit_digits", ("classes=7",), "digits/5to9 has 5 classes: expected 7"),
    ],
)
def test_invalid_settings_fail_before_training(tmp_path, data_dir, task, model, overrides, message):
    with pytest.raises(kd.UserError, match=message):
        finetune(model, task, tmp_path, overrides, data_dir, quiet=True)
    assert not (tmp_path / "metrics.csv").exists()


def test_a_teacher_of_other_classes_is_rejected(tmp_path, data_dir, start):
    teacher = kd.build("regnety_digits", num_classes=5)
    teacher.class_names = tuple("01234")
    teacher.save(tmp_path / "teacher.keras")

    overrides = ["distillation=hard", f"teacher={tmp_path / 'teacher.keras'}"]
    message = r"5 classes \(0, 1, 2, ...\) and the student 5 \(5, 6, 7, ...\)"
    with pytest.raises(kd.UserError, match=message):
        finetune(start, TASK, tmp_path / "run", overrides, data_dir, quiet=True)


@pytest.mark.slow
def test_a_model_in_memory_is_fine_tuned_and_stays_as_it_is(tmp_path, data_dir, start):
    model = kd.load(start)
    before = model.get_weights()
    overrides = [*SHORT, "image_size=12"]
    new = finetune(model, TASKS[TASK], tmp_path, overrides, data_dir, quiet=True)
    for old, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, now)
    assert (new.image_size, new.class_names) == ((12, 12), tuple("56789"))
    assert kd.load(tmp_path / "best.keras").class_names == tuple("56789")

    scores = json.loads((tmp_path / "scores.json").read_text())["last"]
    assert set(scores["fused"]) == {"top1", "top5", "per_class", "loss"}
    assert scores["fused"]["top1"] == accuracy_on_test(new, data_dir)

    again = finetune(model, TASK, tmp_path, overrides, data_dir, quiet=True)
    np.testing.assert_array_equal(again.get_weights()[0], new.get_weights()[0])

    model.head.bias.assign_add([1.0] * 5)
    with pytest.raises(kd.UserError, match=r"start.keras holds another model"):
        finetune(model, TASK, tmp_path, overrides, data_dir, quiet=True)
    (tmp_path / "start.sha256").write_text("of another file")
    with pytest.raises(kd.UserError, match=r"start.keras has changed since the run in .* began"):
        finetune(tmp_path / "start.keras", TASK, tmp_path, overrides, data_dir, quiet=True)


def accuracy_on_test(model, data_dir):
    batches = kd.data.images("digits/5to9", "test", data_dir, model.image_size, 1.0)
    return kd.evaluate(model, batches)["fused"].top1


def changed_weights(before, after):
    """The names of the weights that training changed."""
    before, after = variables(before), variables(after)
    return {name for name in before if not np.array_equal(before[name], after[name])}


@pytest.mark.slow
def test_frozen_weights_stay(tmp_path, data_dir, start):
    old = kd.load(start)

    def fine_tuned(trainable):
        overrides = [*SHORT, f"trainable={trainable}", "ema=0.5"]
        return finetune(start, TASK, tmp_path / trainable, overrides, data_dir, quiet=True)

    heads = {
        f"{head}.{parameter}" for head in ("head", "head_dist") for parameter in ("weight", "bias")
    }
    assert changed_weights(old, fine_tuned("heads")) == heads

    attention = changed_weights(old, fine_tuned("attention")) - heads
    assert attention == {
        "pos_embed",
        *(
            f"blocks.{i}.attn.{layer}.{parameter}"
            for i in range(2)
            for layer in ("qkv", "proj")
            for parameter in ("weight", "bias")
        ),
    }

    average = kd.load(tmp_path / "heads" / "average.keras")
    last = kd.load(tmp_path / "heads" / "last.keras")
    assert changed_weights(old, average) == heads
    assert changed_weights(average, last) == heads


@pytest.mark.slow
def test_a_convnets_statistics_stay_if_only_its_head_trains(tmp_path, data_dir):
    keras.utils.set_random_seed(1)
    start = kd.build("regnety_digits")
    overrides = ["epochs=1", "passes=1", "image_size=8", "trainable=heads", "jit_compile=false"]
    new = finetune(start, TASK, tmp_path, overrides, data_dir, quiet=True)
    assert changed_weights(start, new) == {"head.fc.weight", "head.fc.bias"}


@pytest.mark.slow
def test_both_heads_learn_from_labels_or_a_teacher(tmp_path, data_dir, start):
    """A teacher that is a published name is fine-tuned on the task first, on the student's
    images."""
    short = {"epochs": 2, "passes": 1, "warmup_epochs": 1, "run_eagerly": True}
    task = dataclasses.replace(TASKS[TASK], our_settings={**TASKS[TASK].our_settings, **short})

    def heads_of(name, *overrides):
        new = finetune(start, task, tmp_path / name, overrides, data_dir, quiet=True)
        return [np.array(head.kernel) for head in (new.head, new.head_dist)]

    initial = heads_of("untrained", "lr=1e-9", "min_lr=0", "warmup_lr=0")
    label = heads_of("label")
    mean = heads_of("mean", "distillation=none")
    taught = heads_of("taught", "distillation=hard", "teacher=regnety_digits")

    for heads in (label, mean, taught):  # both move
        assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(heads, initial, strict=True))
    assert np.abs(label[1] - mean[1]).max() > 1e-4
    assert np.abs(label[1] - taught[1]).max() > 1e-4

    plan = json.loads(
        (tmp_path / "taught" / "teachers" / "regnety_digits" / "plan.json").read_text()
    )
    assert plan["recipe"]["train_fraction"] == 0.111
    assert "50 training" in plan["run"]["data"]
    teacher = kd.load(tmp_path / "taught" / "teachers" / "regnety_digits" / "last.keras")
    assert teacher.class_names == tuple("56789")


def test_a_label_for_both_heads_is_the_mean_of_their_losses(tiny):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 24, 16, 3)).astype("float32")
    labels = np.eye(5, dtype="float32")[[0, 1, 2, 4]]
    optimizer = keras.optimizers.SGD(0.0)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    tiny.compile(optimizer, loss, distillation=kd.Distillation(None, "label", alpha=0.25))
    logs = tiny.train_on_batch(images, labels, return_dict=True)
    class_loss, token_loss = (float(loss(labels, head)) for head in tiny.logits(images))
    assert float(logs["loss"]) == pytest.approx(0.75 * class_loss + 0.25 * token_loss, rel=1e-5)
    assert float(logs["distillation_loss"]) == pytest.approx(token_loss, rel=1e-5)
    with pytest.raises(kd.UserError, match=r"the kind label expects \(batch, num_classes\)"):
        tiny.train_on_batch(images, np.array([0, 1, 2, 4]))
    with pytest.raises(kd.UserError, match="kind label with a teacher: expected none"):
        tiny.compile(optimizer, loss, distillation=kd.Distillation(tiny, "label"))


def test_new_heads_are_new_for_the_same_number_of_classes(start):
    kept, new = kd.load(start), kd.load(start, new_heads=True)
    for head in ("head", "head_dist"):
        before, after = (np.array(getattr(model, head).kernel) for model in (kept, new))
        assert np.abs(before - after).max() > 1e-3
    np.testing.assert_array_equal(kept.norm.gamma, new.norm.gamma)
    assert (kept.class_names, new.class_names) == (tuple("01234"), None)
    assert kd.load(start, num_classes=7).class_names is None
    assert kd.load(start, image_size=12).class_names == tuple("01234")


def test_class_names_are_saved_with_the_model(tiny, tmp_path):
    tiny.class_names = ("a", "b", "c", "ćma", "❤")
    tiny.save(tmp_path / "model.keras")
    kd.save_pretrained(tiny, tmp_path / "folder")
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["label_names"] == list(tiny.class_names)
    for path in ("model.keras", "folder"):
        assert kd.load(tmp_path / path).class_names == tiny.class_names
    with pytest.raises(kd.UserError, match="expected a name for each of 5"):
        kd.DeiT(8, 2, 8, 1, 2, num_classes=5, class_names=["a"])
