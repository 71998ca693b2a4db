"""What the programs that run the original implementations share. They need torch and, for timm,
torchvision, which the project itself never does. Import this module before timm."""

import pathlib

import numpy as np
import torch

# timm imports torchvision, whose compiled operators a CPU-only torch may lack: declare them.
library = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"


def images(shape, seed=7):
    """Random normal numbers, a float32 tensor of this shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def write(goldens):
    """Writes tests/goldens/<name>.npz for each name -> dict of arrays."""
    for name, arrays in goldens.items():
        np.savez_compressed(GOLDENS / f"{name}.npz", **arrays)
