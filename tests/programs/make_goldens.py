"""Writes the goldens of models, losses and schedule from the original implementations:
python -m tests.programs.make_goldens

Needs torch, timm and transformers, which the project itself never does. Every parameter is random,
so that no zero or one hides a swapped name.
"""

import argparse
import shutil

import numpy as np
import torch

from tests.programs.originals import GOLDENS, images, write  # before timm

from timm.models.deit import VisionTransformerDistilled  # isort: skip
from timm.models.regnet import RegNet, RegNetCfg
from timm.models.vision_transformer import VisionTransformer
from timm.scheduler import CosineLRScheduler
from transformers import (
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    ViTConfig,
    ViTForImageClassification,
)

DEIT = {"img_size": (24, 16), "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 3}


def randomize(model, seed):
    """Random parameters, positive where a scale or a variance has to be."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if "num_batches" not in name:
            scale = 1.5 / value[0].numel() ** 0.5 if value.dim() > 1 else 0.5
            value.copy_(torch.randn(value.shape, generator=generator) * scale)
        if "running_var" in name or "bn.weight" in name or ("norm" in name and "weight" in name):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return model.eval()


def weights(model):
    """A model's parameters as arrays of a golden."""
    state = {k: v.numpy() for k, v in model.state_dict().items() if "num_batches" not in k}
    return {f"weights/{name}": value for name, value in state.items()}


def deit(distilled):
    """A DeiT: its parameters, images, and the logits of each head and of both."""
    kind = VisionTransformerDistilled if distilled else VisionTransformer
    model = randomize(kind(**DEIT, num_classes=5), seed=int(distilled))

    x = images((3, 3, 24, 16))
    with torch.no_grad():
        tokens = model.forward_features(x)
        logits = [model.head(tokens[:, 0])]
        if distilled:
            logits.append(model.head_dist(tokens[:, 1]))
        fused = model(x)
    return {
        **weights(model),
        "images": x.permute(0, 2, 3, 1).numpy(),
        "logits": torch.stack(logits).numpy(),
        "fused": fused.numpy(),
    }


def resampled():
    """The distilled model of 4x4 patches, its position embedding resampled as in the official
    main.py, and its logits at those resolutions."""
    fields = {**DEIT, "num_classes": 5}
    model = randomize(VisionTransformerDistilled(**{**fields, "img_size": (32, 32)}), seed=4)
    arrays = weights(model)
    prefix, grid = model.pos_embed[:, :2], model.pos_embed[:, 2:]
    grid = grid.reshape(1, 4, 4, -1).permute(0, 3, 1, 2)

    for rows, columns in ((2, 8), (3, 5), (7, 7)):
        size = (rows * 8, columns * 8)
        other = VisionTransformerDistilled(**{**fields, "img_size": size}).eval()
        new = torch.nn.functional.interpolate(
            grid, (rows, columns), mode="bicubic", align_corners=False
        )
        new = torch.cat([prefix, new.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
        other.load_state_dict({**model.state_dict(), "pos_embed": new})

        x = images((2, 3, *size))
        with torch.no_grad():
            tokens = other.forward_features(x)
            logits = torch.stack([other.head(tokens[:, 0]), other.head_dist(tokens[:, 1])])

        name = f"{rows}x{columns}"
        arrays[f"{name}/images"] = x.permute(0, 2, 3, 1).numpy()
        arrays[f"{name}/logits"] = logits.numpy()
        arrays[f"{name}/pos_embed"] = new.detach().numpy()
    return arrays


def from_transformers(distilled):
    """Writes the file of a random model, and returns images and the logits of each head."""
    kind, config, name = (
        (DeiTForImageClassificationWithTeacher, DeiTConfig, "transformers_distilled")
        if distilled
        else (ViTForImageClassification, ViTConfig, "transformers")
    )
    shape = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3}
    sizes = {"intermediate_size": 48, "image_size": 24, "patch_size": 8, "num_labels": 5}
    model = kind(config(**shape, **sizes, layer_norm_eps=1e-6))
    randomize(model, seed=5)
    model.save_pretrained(GOLDENS / "folder")
    (GOLDENS / "folder" / "model.safetensors").rename(GOLDENS / f"{name}.safetensors")
    shutil.rmtree(GOLDENS / "folder")

    x = images((2, 3, 24, 24))
    with torch.no_grad():
        output = model(x)
    heads = [output.cls_logits, output.distillation_logits] if distilled else [output.logits]
    return {"images": x.permute(0, 2, 3, 1).numpy(), "logits": torch.stack(heads).numpy()}


def torch_files():
    """Writes the distilled golden model as an official file, in PyTorch's current and former
    formats, and as a training checkpoint of the official script."""
    model = randomize(VisionTransformerDistilled(**DEIT, num_classes=5), seed=1)
    state = {"model": model.state_dict()}
    torch.save(state, GOLDENS / "deit_distilled.pth")
    torch.save(state, GOLDENS / "former.pth", _use_new_zipfile_serialization=False)
    torch.save({**state, "args": argparse.Namespace(lr=5e-4)}, GOLDENS / "training.pth")


def regnety():
    """A RegNetY: its parameters, shape, images and logits."""
    config = RegNetCfg(
        stem_width=8, depth=8, w0=8, wa=8.0, wm=2.0, group_size=8, se_ratio=0.25, bottle_ratio=1.0
    )
    model = randomize(RegNet(config, num_classes=5), seed=3)
    stages = [getattr(model, f"s{i}") for i in range(1, 5) if hasattr(model, f"s{i}")]

    x = images((2, 3, 17, 32))
    with torch.no_grad():
        logits = model(x)
    return {
        **weights(model),
        "depths": np.array([len(list(stage.children())) for stage in stages]),
        "widths": np.array(
            [next(iter(stage.children())).conv3.conv.out_channels for stage in stages]
        ),
        "images": x.permute(0, 2, 3, 1).numpy(),
        "logits": logits.numpy(),
    }


def losses():
    """The formulas of the official losses.py: label loss, hard, and soft in both reductions."""
    student, head, teacher = (images((6, 5), seed) * 2 for seed in (1, 2, 3))
    labels = torch.softmax(images((6, 5), 4), dim=-1)
    tau = 3.0
    log = torch.nn.functional.log_softmax
    divergence = torch.nn.functional.kl_div(
        log(head / tau, dim=1), log(teacher / tau, dim=1), reduction="sum", log_target=True
    )
    return {
        "student": student.numpy(),
        "head": head.numpy(),
        "teacher": teacher.numpy(),
        "labels": labels.numpy(),
        "label_loss": torch.sum(-labels * log(student, dim=-1), dim=-1).mean().numpy(),
        "hard": torch.nn.functional.cross_entropy(head, teacher.argmax(dim=1)).numpy(),
        "soft_elements": (divergence * tau**2 / head.numel()).numpy(),
        "soft_batch": (divergence * tau**2 / len(head)).numpy(),
        "tau": np.array(tau),
    }


def schedule():
    """Learning rates of 40 steps with 5 of warm-up, by timm's scheduler."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    scheduler = CosineLRScheduler(
        optimizer, t_initial=40, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6
    )
    rates = []
    for step in range(40):
        scheduler.step(step)
        rates.append(optimizer.param_groups[0]["lr"])
    return {"rates": np.array(rates)}


if __name__ == "__main__":
    torch_files()
    write(
        {
            "deit": deit(distilled=False),
            "deit_distilled": deit(distilled=True),
            "regnety": regnety(),
            "resampled": resampled(),
            "transformers": from_transformers(distilled=False),
            "transformers_distilled": from_transformers(distilled=True),
            "losses": losses(),
            "schedule": schedule(),
        }
    )
