"""Probes on a user's images: unreadable ones are skipped, and counted."""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

import keras_deit as kd
from tests import archives
from transfer.probe import METHODS, STRENGTHS, _best_strength, _linear, probe
from transfer.tasks import find


@pytest.fixture
def images(tmp_path):
    """A folder with two classes, and one unreadable image in each split."""
    for split in ("train", "val"):
        for label, name in enumerate(("ant", "bee")):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                (folder / f"{number}.jpg").write_bytes(archives.jpeg(10 * label + number))
        (folder / "broken.jpg").write_bytes(b"no image")
    return f"folder:{tmp_path / 'images'}"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.keras"
    kd.DeiT(8, 4, width=12, depth=1, heads=2, num_classes=3).save(path)
    return str(path)


@pytest.mark.filterwarnings("ignore:.*broken.jpg")
def test_unreadable_images_are_skipped_up_to_a_limit(images, model, tmp_path):
    scores = probe(model, images, tmp_path / "probe", quiet=True)
    assert tuple(scores) == METHODS
    assert all(0 <= score[metric] <= 1 for score in scores.values() for metric in score)
    assert all(set(score) == {"top1", "per_class"} for score in scores.values())

    with pytest.raises(kd.UserError, match="2 of 14 images cannot be read"):
        probe(model, images, tmp_path / "other", ["max_damaged=1"], quiet=True)
    assert not (tmp_path / "other" / "probe.json").exists()


def test_a_model_without_weights_is_rejected(images, tmp_path):
    settings = ["image_size=8", "max_damaged=2"]
    with (
        pytest.warns(UserWarning, match="2 of 14 images cannot be read"),
        pytest.raises(kd.UserError, match="deit_digits has no published weights"),
    ):
        probe("deit_digits", find(images), tmp_path / "probe", settings, quiet=True)


def test_the_strength_is_chosen_on_held_out_images_if_there_are_enough():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    features = 0.3 * labels[:, None] + rng.normal(size=(40, 30))
    scores = {strength: _held_out_score(features, labels, strength) for strength in STRENGTHS}
    assert len(set(scores.values())) > 1
    assert scores[_best_strength(features, labels, seed=0)] == max(scores.values())

    assert _best_strength(features[[0, 20]], labels[[0, 20]], seed=0) == 1.0  # one of each class


def _held_out_score(features, labels, strength):
    train, test, train_labels, test_labels = train_test_split(
        features, labels, test_size=0.2, stratify=labels, random_state=0
    )
    return _linear(strength).fit(train, train_labels).score(test, test_labels)
