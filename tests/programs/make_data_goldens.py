"""Writes the goldens of mixing and image transforms from the original implementations:
python -m tests.programs.make_data_goldens

Needs torch, torchvision and timm, which the project itself never does.
"""

import random

import numpy as np
import torch
from PIL import Image

from tests.programs.originals import images, write  # before timm

from timm.data import auto_augment, create_transform  # isort: skip
from timm.data.mixup import Mixup, rand_bbox
from timm.data.random_erasing import RandomErasing
from torchvision.transforms import RandomResizedCrop


def mixing():
    """A batch mixed by timm at known lambdas, and CutMix boxes of timm at known draws."""
    x, labels = images((4, 3, 8, 8)), torch.tensor([0, 3, 1, 4])
    mixer = Mixup(mixup_alpha=0.8, cutmix_alpha=0.0, label_smoothing=0.1, num_classes=5)
    mixer._params_per_batch = lambda: (0.3, False)
    mixed, targets = mixer(x.clone(), labels)
    np.random.seed(5)
    lams = np.random.uniform(size=20)
    boxes = []
    for lam in lams:
        state = np.random.get_state()
        box = rand_bbox((4, 3, 8, 6), lam)
        np.random.set_state(state)
        center = [np.random.randint(0, 8), np.random.randint(0, 6)]
        boxes.append([*center, *box])
    return {
        "images": x.permute(0, 2, 3, 1).numpy(),
        "labels": labels.numpy(),
        "mixed": mixed.permute(0, 2, 3, 1).numpy(),
        "targets": targets.numpy(),
        "lams": lams,
        "boxes": np.array(boxes),  # center row, center column, top, bottom, left, right
    }


def picture(height, width):
    """The middle of the temple roof that scikit-learn ships, uint8."""
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image("china.jpg")).crop((100, 60, 420, 300))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def randaugment():
    """timm's fifteen operations: the parameter of each level and sign, and what it does to an
    image. NaN stands for no parameter."""
    settings = {
        "img_mean": (124, 116, 104),
        "interpolation": Image.Resampling.BICUBIC,
        "magnitude_std": 0.5,
    }
    policy = auto_augment.rand_augment_transform("rand-m9-mstd0.5-inc1", settings)
    levels = np.array([0, 0.7, 2.5, 4.9, 7.4, 8.5, 9.0, 9.4, 9.9])
    image = picture(18, 23)
    made = {"image": image, "levels": levels, "names": np.array([op.name for op in policy.ops])}
    for op in policy.ops:
        parameters = np.full((2, len(levels)), np.nan)
        views = []
        for i, positive in enumerate((True, False)):
            auto_augment._randomly_negate = lambda value, s=positive: value if s else -value
            for j, level in enumerate(levels.tolist()):
                if op.level_fn is not None:
                    (parameters[i, j],) = op.level_fn(level, op.hparams)
                if level in (2.5, 9.4):
                    arguments = [] if op.level_fn is None else op.level_fn(level, op.hparams)
                    views.append(op.aug_fn(Image.fromarray(image), *arguments, **op.kwargs))
        made[f"parameters/{op.name}"] = parameters
        made[f"views/{op.name}"] = np.stack(views)  # 2.5, 9.4, -2.5, -9.4
    return made


def boxes():
    """What torchvision's random resized crop and timm's random erasing choose: (top, left, height,
    width), all zero where nothing is erased."""
    torch.manual_seed(1)
    random.seed(1)
    crops = {}
    for height, width in ((375, 500), (60, 200)):
        image = Image.new("L", (width, height))
        drawn = [
            RandomResizedCrop.get_params(image, (0.08, 1), (3 / 4, 4 / 3)) for _ in range(3000)
        ]
        crops[f"crops/{height}x{width}"] = np.array(drawn, np.int16)
    crops["center"] = np.array(
        [
            (
                height,
                width,
                *RandomResizedCrop.get_params(
                    Image.new("L", (width, height)), (9, 9), (3 / 4, 4 / 3)
                ),
            )
            for height, width in ((40, 333), (333, 41), (50, 66), (51, 51))
        ]
    )
    eraser, erased = RandomErasing(1.0, mode="pixel", device="cpu"), []
    for _ in range(3000):
        marked = torch.zeros(1, 60, 80)
        eraser(marked)
        rows, columns = (marked[0].any(dim=axis).nonzero()[:, 0] for axis in (1, 0))
        (top, height), (left, width) = (
            (int(a[0]), len(a)) if len(a) else (0, 0) for a in (rows, columns)
        )
        erased.append((top, left, height, width))
    return {**crops, "erased": np.array(erased, np.int16)}


def evaluation():
    """Images after timm's evaluation transform, before normalization, and one after it."""
    made = {}
    cases = [  # image height and width, model height and width, crop ratio
        (90, 121, 32, 32, 0.875),
        (120, 83, 32, 32, 0.9),
        (75, 75, 33, 33, 1.0),
        (20, 31, 40, 40, 0.875),
        (97, 61, 24, 40, 0.9),
        (61, 98, 40, 24, 0.95),
    ]
    for i, (height, width, *size, crop) in enumerate(cases):
        image = picture(height, width)
        view = create_transform(size, crop_pct=crop, interpolation="bicubic", normalize=False)
        made[f"image/{i}"] = image
        made[f"view/{i}"] = view(Image.fromarray(image)).permute(1, 2, 0).numpy()
    view = create_transform(size, crop_pct=crop, interpolation="bicubic")
    made["normalized"] = view(Image.fromarray(image)).permute(1, 2, 0).numpy()
    return {**made, "crops": np.array([case[-1] for case in cases])}


if __name__ == "__main__":
    write(
        {
            "mixing": mixing(),
            "randaugment": randaugment(),
            "boxes": boxes(),
            "evaluation": evaluation(),
        }
    )
