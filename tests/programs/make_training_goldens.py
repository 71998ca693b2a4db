"""Writes the golden of ten training steps by the official formulas in PyTorch:
python -m tests.programs.make_training_goldens

The official ``main.py`` with timm 0.3.2: AdamW groups by ``add_weight_decay`` and the model's
``no_weight_decay``, timm's cosine schedule by steps, ``losses.py``, timm's moving average. Needs
torch and timm. Batches are of numpy's frozen RandomState, which the test draws again.
"""

import copy

import numpy as np
import torch
from torch.nn import functional

from tests.programs.make_goldens import DEIT, randomise
from tests.programs.originals import write

from timm.models.deit import VisionTransformerDistilled  # isort: skip
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV2

STEPS, BATCH, CLASSES, TAU, ALPHA, DECAY = 10, 6, 5, 3.0, 0.3, 0.9
NOT_DECAYED = ("pos_embed", "cls_token")  # of timm 0.3.2, which decays the distillation token
CASES = {
    "hard": {"optimizer": "adamw", "soft": False, "clip": None},
    "soft": {"optimizer": "adamw", "soft": True, "clip": 4.0},
    "sgd": {"optimizer": "sgd", "soft": False, "clip": None},
}


def batches():
    """Images, labels and the teacher's logits, a linear function of the images."""
    random = np.random.RandomState(0)
    matrix = random.normal(size=(24 * 16 * 3, CLASSES)).astype("float32") / 30
    for _ in range(STEPS):
        images = random.normal(size=(BATCH, 24, 16, 3)).astype("float32")
        labels = random.dirichlet(np.ones(CLASSES), BATCH).astype("float32")
        yield images, labels, images.reshape(BATCH, -1) @ matrix


def train(optimizer, soft, clip):
    torch.use_deterministic_algorithms(True)
    model = randomise(VisionTransformerDistilled(**DEIT, num_classes=CLASSES), seed=1)
    model.set_distilled_training(True)
    model.train().requires_grad_(True)
    named = dict(model.named_parameters())
    plain = [p for n, p in named.items() if p.ndim == 1 or n in NOT_DECAYED]
    decayed = [p for n, p in named.items() if not (p.ndim == 1 or n in NOT_DECAYED)]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.5}]
    rate = 2e-3 if optimizer == "adamw" else 2e-2
    if optimizer == "adamw":
        made = torch.optim.AdamW(groups, lr=rate, eps=1e-8)
    else:
        made = torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    schedule = CosineLRScheduler(made, t_initial=STEPS, lr_min=1e-3)
    average = ModelEmaV2(copy.deepcopy(model), decay=DECAY)
    norms = []
    for step, (images, labels, target) in enumerate(batches()):
        schedule.step(step)
        target = torch.from_numpy(target)
        head, head_dist = model(torch.from_numpy(images).permute(0, 3, 1, 2))
        label_loss = torch.sum(
            -torch.from_numpy(labels) * functional.log_softmax(head, dim=-1), dim=-1
        ).mean()
        if soft:
            logs = (functional.log_softmax(x / TAU, dim=1) for x in (head_dist, target))
            taught = functional.kl_div(*logs, reduction="sum", log_target=True)
            taught = taught * TAU**2 / head_dist.numel()
        else:
            taught = functional.cross_entropy(head_dist, target.argmax(dim=1))
        made.zero_grad()
        ((1 - ALPHA) * label_loss + ALPHA * taught).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip or torch.inf)
        norms.append(norm.item())
        made.step()
        average.update(model)
    print(optimizer, soft, "gradient norms", np.round(norms, 2))
    return model, average.module


def main():
    arrays = {}
    for case, settings in CASES.items():
        for kind, model in zip(("last", "average"), train(**settings), strict=True):
            for name, value in model.state_dict().items():
                arrays[f"{case}/{kind}/{name}"] = value.numpy()
    write({"steps": arrays})


if __name__ == "__main__":
    main()
