"""Compares every published architecture at full size with timm and transformers, both ways:
python -m tests.programs.compare, in an environment with torch, timm and transformers too.

The other library makes each model and writes its file. The parameters are random, so that no zero
or one hides a swapped name. The numbers are the largest absolute differences of float32 logits,
relative to the logits' standard deviation: class head / distillation head.
"""

import gc
import pathlib
import tempfile

import numpy as np
import torch

from tests.programs import originals  # before timm

import timm  # isort: skip
import transformers
from safetensors.torch import save_file

import keras_deit as kd
from keras_deit.models.factory import family_of
from keras_deit.utils.tables import markdown_row

torch.set_grad_enabled(False)
SIZES = ((224, 224), (384, 384), (256, 192))
SAVED = ("deit_digits_distilled", "deit_digits", "deit_tiny_distilled_patch16_224")
TOLERANCE = 1e-4


def is_deit(name):
    return family_of(name) is kd.DeiT


def randomize(model):
    """Random parameters under which activations neither vanish nor explode."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if "num_batches" in name:
            continue
        scale = value[0].numel() ** -0.5 if value.dim() > 1 else 0.1
        if name.endswith(("token", "pos_embed", "position_embeddings")):
            scale = 0.5
        value.copy_(torch.randn(value.shape, generator=generator) * scale)
        if (value.dim() == 1 and "weight" in name) or "running_var" in name:
            value.copy_(torch.rand(value.shape, generator=generator) * 0.5 + 0.75)
    return model.eval()


def images(size):
    return originals.images((2, 3, *size), seed=1)


def from_timm(name, folder):
    """timm's model of a name: the path of its file, and a function from a size to the logits of
    its heads."""
    model = randomize(timm.create_model(name))
    save_file(model.state_dict(), folder / "timm")

    def convnet_logits(size):
        return [model(images(size))]

    def deit_logits(size):
        distilled = kd.VARIANTS[name].distilled
        other = timm.create_model(name, img_size=size).eval()
        state = dict(model.state_dict())
        state["pos_embed"] = resample(state["pos_embed"], 1 + distilled, size)
        other.load_state_dict(state)
        tokens = other.forward_features(images(size))
        heads = [other.head, other.head_dist] if distilled else [other.head]
        return [head(tokens[:, i]) for i, head in enumerate(heads)]

    return folder / "timm", deit_logits if is_deit(name) else convnet_logits


def resample(embedding, tokens, size):
    """A position embedding at another image size, as the official main.py resamples it."""
    grid = embedding[:, tokens:]
    side = int(grid.shape[1] ** 0.5)
    grid = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    new = (size[0] // 16, size[1] // 16)
    if new != (side, side):
        grid = torch.nn.functional.interpolate(grid, new, mode="bicubic", align_corners=False)
    return torch.cat([embedding[:, :tokens], grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def from_transformers(name, folder):
    """As ``from_timm``, of transformers, by its own writer."""
    row = kd.VARIANTS[name]
    kind, config = (
        (transformers.DeiTForImageClassificationWithTeacher, transformers.DeiTConfig)
        if row.distilled
        else (transformers.ViTForImageClassification, transformers.ViTConfig)
    )
    fields = {
        "hidden_size": row.width,
        "num_attention_heads": row.heads,
        "intermediate_size": 4 * row.width,
        "image_size": row.image_size,
        "num_labels": 1000,
    }
    model = randomize(kind(config(**fields)))
    model.save_pretrained(folder)

    def logits(size):
        output = model(images(size), interpolate_pos_encoding=True)
        if row.distilled:
            return [output.cls_logits, output.distillation_logits]
        return [output.logits]

    return folder / "model.safetensors", logits


def differences(path, name, logits):
    """The relative difference of each head, for each of ``SIZES``."""
    by_size = []
    for size in SIZES:
        model = kd.load(path, name, image_size=size)
        ours = model.logits(images(size).permute(0, 2, 3, 1).numpy())
        theirs = [head.numpy() for head in logits(size)]
        by_size.append(
            [np.abs(np.array(a) - b).max() / b.std() for a, b in zip(ours, theirs, strict=True)]
        )
        del model
        gc.collect()
    return by_size


def compare_loaded():
    """Prints a row for each published model and library; returns the largest difference."""
    print(markdown_row(["model", "file of", *("{}x{}".format(*size) for size in SIZES)]))
    print(markdown_row(["---"] * (2 + len(SIZES))))
    largest = 0.0
    for name in [name for name, row in kd.VARIANTS.items() if row.published]:
        makers = {"timm": from_timm}
        if is_deit(name):
            makers["transformers"] = from_transformers
        for library, make in makers.items():
            with tempfile.TemporaryDirectory() as folder:
                path, logits = make(name, pathlib.Path(folder))
                by_size = differences(path, name, logits)
            cells = [" / ".join(f"{x:.1e}" for x in heads) for heads in by_size]
            print(markdown_row([name, library, *cells]), flush=True)
            largest = max(largest, *(x for heads in by_size for x in heads))
    return largest


def compare_saved(folder):
    """Prints a row for each model saved here and library that loads it; returns the largest
    difference."""
    print("\n" + markdown_row(["saved here", "loaded by", "fused"]))
    print(markdown_row(["---"] * 3))
    largest = 0.0
    for name in SAVED:
        model = kd.build(name)
        for variable in model.trainable_variables:
            variable.assign(variable + np.random.default_rng(0).normal(0, 0.1, variable.shape))
        path = folder / name
        kd.save_pretrained(model, path)
        loaded = {
            "timm": timm.create_model(f"local-dir:{path}", pretrained=True),
            "transformers": transformers.AutoModelForImageClassification.from_pretrained(path),
        }

        x = np.random.default_rng(1).normal(size=(2, *model.image_size, 3)).astype("float32")
        ours = np.array(model(x))
        for library, other in loaded.items():
            output = other.eval()(torch.from_numpy(x).permute(0, 3, 1, 2))
            theirs = getattr(output, "logits", output).numpy()
            difference = np.abs(ours - theirs).max() / ours.std()
            print(markdown_row([name, library, f"{difference:.1e}"]), flush=True)
            largest = max(largest, difference)
    return largest


def main():
    largest = compare_loaded()
    with tempfile.TemporaryDirectory() as folder:
        largest = max(largest, compare_saved(pathlib.Path(folder)))
    print(f"\nThe largest is {largest:.1e}; {TOLERANCE:g} is allowed.")
    raise SystemExit(int(largest > TOLERANCE))


if __name__ == "__main__":
    main()
