"""Every recipe of the paper as far as it goes without ImageNet: its model, its data, its optimizer;
and a step of each family."""

import dataclasses
import functools
import io
import tarfile

import keras
import numpy as np
import pytest
from PIL import Image

import keras_deit as kd
from keras_deit.configs.imagenet import IMAGENET
from keras_deit.configs.variants import VARIANTS
from keras_deit.data import datasets
from keras_deit.training import from_recipe
from keras_deit.training.from_recipe import learning_rate

PAPER = list(IMAGENET)
FAMILIES = ("", "_soft", "_hard", "_distilled", "_384", "_distilled_384")


def add(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def jpeg(seed):
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A data_dir with eight training images of ImageNet's layout and four to validate, prepared."""
    root = tmp_path_factory.mktemp("imagenet")
    manual = root / "downloads" / "manual"
    manual.mkdir(parents=True)
    with tarfile.open(manual / "ILSVRC2012_img_train.tar", "w") as train:
        for number, wnid in enumerate(("n01440764", "n15075141")):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for i in range(4):
                    add(tar, f"{wnid}_{i}.JPEG", jpeg(10 * number + i))
            add(train, f"{wnid}.tar", inner.getvalue())
    with tarfile.open(manual / "ILSVRC2012_img_val.tar", "w") as tar:
        for i in range(4):
            add(tar, f"ILSVRC2012_val_{i + 1:08}.JPEG", jpeg(100 + i))
    datasets.prepare("imagenet2012", root)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("size", sorted({name.split("_")[1] for name in PAPER}))
def test_every_recipe_builds_its_model_data_and_optimizer(size, imagenet):
    names = ("variant", "image_size", "drop_path", "dropout")  # what a model depends on

    @functools.lru_cache(maxsize=1)
    def model_of(*fields):
        row = dataclasses.replace(kd.RECIPES["deit_tiny"], **dict(zip(names, fields, strict=True)))
        return from_recipe._model(row, train.class_names)

    def fields(name):
        return [getattr(kd.RECIPES[name], field) for field in names]

    rows = [name for name in PAPER if name.split("_")[1] == size]
    for name in sorted(rows, key=lambda name: str(fields(name))):
        row = kd.RECIPES[name]
        train = kd.data.train(row, imagenet)
        assert (train.info.images, train.num_classes, train.steps) == (8, 1000, 1), name
        assert train.element_spec[0].shape[1:] == (row.image_size, row.image_size, 3), name

        model = model_of(*fields(name))
        assert model.image_size == (row.image_size,) * 2
        assert abs(model.count_params() / VARIANTS[row.variant].params - 1) < 0.1, name

        from_recipe._compile(row, model, None, train.steps)
        kinds = {"adamw": "AdamW", "sgd": "SGD", "lamb": "Lamb"}
        assert type(model.optimizer).__name__ == kinds[row.optimizer]
        assert model.optimizer.built
        assert bool(model.optimizer.use_ema) == bool(row.ema)


def test_recipes_have_the_papers_values():
    tuned = kd.RECIPES["deit_base_384"]
    assert (tuned.epochs, tuned.batch_size) == (30, 512)
    assert tuned.drop_path == tuned.dropout == 0
    assert learning_rate(tuned) == tuned.min_lr == 5e-6
    assert learning_rate(kd.RECIPES["deit_small_distilled"]) == 1e-3
    soft = kd.RECIPES["deit_base_soft"]
    assert (soft.alpha, soft.tau, soft.token) == (0.1, 3.0, False)
    assert kd.RECIPES["deit_base_distilled_1000"].epochs == 1000
    base = kd.RECIPES["deit_base"]
    for name in PAPER:  # a row says no more than what it changes
        row = kd.RECIPES[name]
        if name.startswith("deit_base_no") or name in ("deit_base_dropout", "deit_base_ema"):
            changed = {
                field.name
                for field in dataclasses.fields(row)
                if getattr(row, field.name) != getattr(base, field.name)
            }
            assert len(changed - {"note"}) == (2 if "mixing" in name else 1), name


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Files of random weights: a teacher, and students to start from."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("regnety_digits", "deit_digits", "deit_digits_distilled"):
        keras.utils.set_random_seed(3)
        kd.build(name).save(folder / f"{name}.keras")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*(f"deit_tiny{family}" for family in FAMILIES), "deit_base_sgd", "deit_base_ema"]
)
def test_a_step_of_each_family(name, models, tmp_path, data_dir):
    row = kd.RECIPES[name]
    variant = "deit_digits_distilled" if "distilled" in row.variant else "deit_digits"
    small = {"variant": variant, "dataset": "digits", "batch_size": 90, "mix_group": 0}
    small |= {"train_fraction": 0.1, "epochs": 1, "image_size": 16 if row.start else 8}
    small |= {"teacher": tuple(str(models / "regnety_digits.keras") for _ in row.teacher)}
    small |= {"start": row.start and str(models / f"{variant}.keras"), "run_eagerly": True}
    model = kd.train(dataclasses.replace(row, **small), tmp_path, data_dir, quiet=True)
    assert model.image_size == (small["image_size"],) * 2
    assert model.distilled == ("distilled" in name)
    assert "| last |" in (tmp_path / "report.md").read_text()
