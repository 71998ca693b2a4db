"""Rows of VARIANTS have all their numbers, and the models built from them match."""

import math
import re

import numpy as np
import pytest

import keras_deit as kd

PUBLISHED = [name for name, row in kd.VARIANTS.items() if row.published]
PAPER = r"deit_(tiny|small|base)(_distilled)?_patch16_(224|384)|regnety_160"  # and its teacher


@pytest.mark.slow
@pytest.mark.parametrize("name", kd.VARIANTS)
def test_a_variant_has_its_number_of_parameters(name):
    weights = kd.build(name).trainable_weights
    assert sum(math.prod(weight.shape) for weight in weights) == kd.VARIANTS[name].params


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_row_is_complete(name):
    row = kd.VARIANTS[name].published
    assert row.file.endswith(".pth")
    assert re.fullmatch("[0-9a-f]{8,64}", row.sha256)
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", row.hub)
    assert abs(row.imagenet[0].top1 - row.paper) < 0.3

    for score in (*row.imagenet, row.real, row.v2):
        assert 0.8 < score.crop <= 1
        assert 50 < score.top1 < (score.top5 or 100) <= 100

    # ReaL's labels forgive more, V2's images are harder.
    assert row.v2.top1 < row.imagenet[0].top1 < row.real.top1


@pytest.mark.parametrize("name", [name for name in kd.VARIANTS if re.fullmatch(PAPER, name)])
def test_files_of_the_papers_models_bear_their_names(name):
    row = kd.VARIANTS[name].published
    assert row.file == f"{name}-{row.sha256}.pth"
    assert row.hub.startswith(f"timm/{name}.")


def test_no_two_rows_share_a_number():
    for field in ("file", "sha256", "hub", "imagenet", "real", "v2"):
        values = [getattr(kd.VARIANTS[name].published, field) for name in PUBLISHED]
        assert len(set(values)) == len(values), field


def test_build_overrides_known_fields_only():
    model = kd.build("deit_tiny_distilled_patch16_224", num_classes=7, image_size=(32, 48), depth=1)
    assert len(model.logits(np.zeros((1, 32, 48, 3), "float32"))) == 2
    assert model.num_classes == 7

    with pytest.raises(kd.UserError, match="has no 'deepness': expected one of width"):
        kd.build("deit_tiny_patch16_224", deepness=3)
    with pytest.raises(kd.UserError, match="unknown variant 'deit_huge': expected one of deit_t"):
        kd.build("deit_huge")
