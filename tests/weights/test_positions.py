"""Position embeddings at other resolutions, as the official code resamples them."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_deit as kd
from keras_deit.weights.positions import resample
from tests.parameters import assert_heads, load, parameters


@pytest.mark.parametrize("grid", ["2x8", "3x5", "7x7"])
def test_other_resolutions(grid, golden, tmp_path):
    truth = golden("resampled")
    save_file(parameters(truth), tmp_path / "square")
    size = tuple(8 * int(side) for side in grid.split("x"))
    model = load(tmp_path / "square", image_size=size, grid=(4, 4))
    np.testing.assert_allclose(model.tokens.pos_embed, truth[f"{grid}/pos_embed"], atol=2e-6)
    np.testing.assert_array_equal(  # the positions of the two tokens stay
        np.array(model.tokens.pos_embed)[:, :2], parameters(truth)["pos_embed"][:, :2]
    )

    resampled = {"images": truth[f"{grid}/images"], "logits": truth[f"{grid}/logits"]}
    assert_heads(model, resampled)
    kd.save_pretrained(model, tmp_path / "other.safetensors")
    assert_heads(kd.load(tmp_path / "other.safetensors"), resampled)  # the file has its own grid


def test_resampling_keeps_identity_constants_and_symmetry():
    grid = np.random.default_rng(0).normal(size=(5, 4, 3)).astype("float32")
    np.testing.assert_allclose(resample(grid, 5, 4), grid, atol=1e-7)
    np.testing.assert_allclose(resample(np.ones((3, 3, 1), "float32"), 8, 2), 1, atol=1e-6)
    np.testing.assert_allclose(
        resample(grid, 9, 7).transpose(1, 0, 2), resample(grid.transpose(1, 0, 2), 7, 9), atol=1e-6
    )


def test_a_grid_that_is_no_square_has_to_be_given(golden, tmp_path):
    save_file(parameters(golden("deit_distilled")), tmp_path / "file")  # 3x2 patches
    with pytest.raises(kd.UserError, match="6 patches, in no known shape: give grid="):
        load(tmp_path / "file", image_size=32)
    model = load(tmp_path / "file", image_size=32, grid=(3, 2))
    grid = parameters(golden("deit_distilled"))["pos_embed"][0, 2:].reshape(3, 2, 12)
    np.testing.assert_allclose(
        np.array(model.tokens.pos_embed)[0, 2:], resample(grid, 4, 4).reshape(16, 12), atol=1e-6
    )


def test_an_ambiguous_grid_is_not_guessed(golden, tmp_path, capsys):
    save_file(parameters(golden("resampled")), tmp_path / "file")  # 4x4 patches
    with pytest.raises(kd.UserError, match="16 patches, in no known shape"):
        load(tmp_path / "file", image_size=(16, 64))
    load(tmp_path / "file", image_size=(16, 64), grid=(4, 4))
    assert "positions taken to be of (4, 4)" in capsys.readouterr().out
    model = load(tmp_path / "file", image_size=(16, 64), grid=(2, 8))
    np.testing.assert_array_equal(
        model.tokens.pos_embed, parameters(golden("resampled"))["pos_embed"]
    )
