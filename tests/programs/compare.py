"""Compares every published architecture at full size with timm and transformers, both ways:
python -m tests.programs.compare, where torch, timm and transformers are installed too.

Each model's parameters are random, so that no zero or one hides a swapped name, and written by the
other library. The numbers are the largest differences of float32 logits over their standard
deviation, class head and distillation head.
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
from keras_deit.configs.variants import DeiTVariant

torch.set_grad_enabled(False)
SIZES = ((224, 224), (384, 384), (256, 192))
WORST = 1e-4


def randomise(model):
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
    """The file that timm's parameters make, and a function from a size to the heads' logits."""
    row = kd.VARIANTS[name]
    model = randomise(timm.create_model(name))
    save_file(model.state_dict(), folder / "timm")

    def logits(size):
        if not isinstance(row, DeiTVariant):
            return [model(images(size))]
        other = timm.create_model(name, img_size=size).eval()
        state = dict(model.state_dict())
        state["pos_embed"] = positions(state["pos_embed"], 1 + row.distilled, size)
        other.load_state_dict(state)
        tokens = other.forward_features(images(size))
        heads = [other.head, other.head_dist] if row.distilled else [other.head]
        return [head(tokens[:, i]) for i, head in enumerate(heads)]

    return folder / "timm", logits


def positions(embedding, prefix, size):
    """As the official main.py resamples them."""
    grid = embedding[:, prefix:]
    side = int(grid.shape[1] ** 0.5)
    grid = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    new = (size[0] // 16, size[1] // 16)
    if new != (side, side):
        grid = torch.nn.functional.interpolate(grid, new, mode="bicubic", align_corners=False)
    return torch.cat([embedding[:, :prefix], grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def from_transformers(name, folder):
    """Likewise from transformers, by its own writer."""
    row = kd.VARIANTS[name]
    kind, config = (
        (transformers.DeiTForImageClassificationWithTeacher, transformers.DeiTConfig)
        if row.distilled
        else (transformers.ViTForImageClassification, transformers.ViTConfig)
    )
    shape = {"hidden_size": row.width, "num_attention_heads": row.heads, "num_labels": 1000}
    sizes = {"intermediate_size": 4 * row.width, "image_size": row.image_size}
    model = randomise(kind(config(**shape, **sizes)))
    model.save_pretrained(folder)

    def logits(size):
        output = model(images(size), interpolate_pos_encoding=True)
        if row.distilled:
            return [output.cls_logits, output.distillation_logits]
        return [output.logits]

    return folder / "model.safetensors", logits


def differences(path, name, logits):
    """The largest difference of each head at each size, over the logits' standard deviation."""
    found = []
    for size in SIZES:
        fields = {"image_size": size} if isinstance(kd.VARIANTS[name], DeiTVariant) else {}
        model = kd.load(path, name, **fields)
        pixels = images(size).permute(0, 2, 3, 1).numpy()
        ours = model.logits(pixels) if fields else [model(pixels)]
        theirs = [head.numpy() for head in logits(size)]
        found.append(
            [np.abs(np.array(a) - b).max() / b.std() for a, b in zip(ours, theirs, strict=True)]
        )
        del model
        gc.collect()
    return found


def back(folder):
    """Models of ours, saved, in timm and in transformers: the largest differences."""
    for name in ("deit_digits_distilled", "deit_digits", "deit_tiny_distilled_patch16_224"):
        model = kd.build(name)
        for variable in model.trainable_variables:
            variable.assign(variable + np.random.default_rng(0).normal(0, 0.1, variable.shape))
        kd.save_pretrained(model, folder / name)
        x = np.random.default_rng(1).normal(size=(2, *model.image_size, 3)).astype("float32")
        pixels = torch.from_numpy(x).permute(0, 3, 1, 2)
        ours = np.array(model(x))
        loaded = {
            "timm": timm.create_model(f"local-dir:{folder / name}", pretrained=True),
            "transformers": transformers.AutoModelForImageClassification.from_pretrained(
                folder / name
            ),
        }
        for library_name, other in loaded.items():
            theirs = other.eval()(pixels)
            theirs = getattr(theirs, "logits", theirs).numpy()
            yield name, library_name, np.abs(ours - theirs).max() / ours.std()


def main():
    print("| model | file of | " + " | ".join("{}x{}".format(*size) for size in SIZES) + " |")
    print("| --- | --- |" + " --- |" * len(SIZES))
    worst = 0.0
    for name, row in kd.VARIANTS.items():
        if row.published is None:
            continue
        sources = {"timm": from_timm}
        if isinstance(row, DeiTVariant):
            sources["transformers"] = from_transformers
        for source, make in sources.items():
            with tempfile.TemporaryDirectory() as folder:
                found = differences(*_named(make(name, pathlib.Path(folder)), name))
            cells = [" / ".join(f"{x:.1e}" for x in heads) for heads in found]
            print(f"| {name} | {source} | {' | '.join(cells)} |", flush=True)
            worst = max(worst, *(x for heads in found for x in heads))
    with tempfile.TemporaryDirectory() as folder:
        print("\n| saved here | loaded by | fused |\n| --- | --- | --- |")
        for name, library_name, difference in back(pathlib.Path(folder)):
            print(f"| {name} | {library_name} | {difference:.1e} |", flush=True)
            worst = max(worst, difference)
    print(f"\nThe largest is {worst:.1e}; {WORST:g} is allowed.")
    raise SystemExit(worst > WORST)


def _named(made, name):
    path, logits = made
    return path, name, logits


if __name__ == "__main__":
    main()
