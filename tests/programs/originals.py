"""What the comparisons with the original implementations share. Needs torch and, for timm,
torchvision, which the project itself never does: import this before timm."""

import pathlib

import numpy as np
import torch

# timm imports torchvision, whose compiled operators a CPU-only torch may lack: declare them.
library = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"


def images(shape, seed=7):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def write(made):
    """Writes arrays by name into tests/goldens/<name>.npz, by what they are of."""
    for name, arrays in made.items():
        np.savez_compressed(GOLDENS / f"{name}.npz", **arrays)
