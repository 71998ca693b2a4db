"""The tasks that models are fine-tuned on: those of the paper (Tables 6 and 7), and others.

A new task is a new row. A row holds only what differs from the paper's settings for ImageNet, which
are the defaults of ``Recipe``, and says where each difference comes from:

- ``published_settings``: what the authors gave on the official tracker
  (github.com/facebookresearch/deit, issues);
- ``our_settings``: what nobody published.

Learning rates are those at 512 images, as ``Recipe.lr`` is. The authors gave theirs after scaling
with the batch, lr * batch / 512. Of SGD's 0.01 they do not say, and it is taken as one at 512.
"""

import pathlib
from dataclasses import dataclass, field

from keras_deit.utils.errors import UserError
from keras_deit.utils.paths import expand_home

# AdamW's rates are known for a width of 768. Narrower models get a multiple of them: our choice.
RATE_FACTORS = {192: 4, 384: 2}

# From this image size on a batch holds at most so many images, as in the paper's own fine-tuning
# at 384 pixels: our choice for the other tasks.
LARGE_IMAGE_SIZE = 384
LARGE_IMAGE_BATCH = 512


@dataclass(frozen=True)
class Task:
    """A dataset, and how a model is fine-tuned on it: a row of ``TASKS``.

    Attributes:
        title: str. The name to print.
        dataset: str. A TFDS name, or ``folder:<path>``.
        classes: int. Number of classes; 0 for any number.
        published_top1: dict. Top-1 accuracy in percent by model (paper, Table 7). Default empty.
        train_split, evaluation_split: str. Splits in TFDS' terms. Default "train" and "test".
        metric: str. "top1", the fraction of images, or "per_class", the mean over classes of that
            fraction. Default "top1".
        published_settings, our_settings: dicts. Fields of a ``Recipe`` that differ from those for
            ImageNet, by their source. Default empty.

    Example:
        >>> from transfer import TASKS
        >>> TASKS["cifar10"].title, TASKS["cifar10"].classes
        ('CIFAR-10', 10)
    """

    title: str
    dataset: str
    classes: int
    published_top1: dict = field(default_factory=dict)
    train_split: str = "train"
    evaluation_split: str = "test"
    metric: str = "top1"
    published_settings: dict = field(default_factory=dict)
    our_settings: dict = field(default_factory=dict)

    def settings(self, width, image_size):
        """The fields of a ``Recipe`` that this task changes.

        Args:
            width: int. Embedding width of the model; None of a convnet.
            image_size: int. Pixels of both sides.
        """
        fields = {**self.published_settings, **self.our_settings}

        if fields.get("optimizer") != "sgd" and "lr" in fields:
            fields["lr"] *= RATE_FACTORS.get(width, 1)

        if image_size >= LARGE_IMAGE_SIZE and "batch_size" in fields:
            fields["batch_size"] = min(fields["batch_size"], LARGE_IMAGE_BATCH)

        return fields

    def published_score(self, model):
        """The published top-1 accuracy of a model, as a fraction; None if there is none."""
        return self.published_top1[model] / 100 if model in self.published_top1 else None


def find(name):
    """The task of a name.

    Args:
        name: str. A row of ``TASKS``, or ``folder:<path>``.

    Raises:
        UserError: there is no such row; lists those that there are.

    Example:
        >>> from transfer.tasks import find
        >>> find("folder:/data/birds").title
        'birds'
    """
    if name.startswith("folder:") and name != "folder:":
        return folder_task(name)

    if name not in TASKS:
        known = ", ".join(TASKS)
        raise UserError(f"unknown task {name!r}: expected {known} or folder:<path>")
    return TASKS[name]


def folder_task(dataset):
    """The task of a user's own images, ``folder:<path>``: see ``keras_deit/data/folders.py``.

    Its settings are for a few hundred images: mild augmentation, each image once in an epoch, a
    short run, and photos upright.
    """
    path = pathlib.Path(expand_home(dataset).removeprefix("folder:")).resolve()

    return Task(
        title=path.name,
        dataset=f"folder:{path}",
        classes=0,
        evaluation_split="validation",
        our_settings={
            "epochs": 30,
            "batch_size": 16,
            "lr": 1.6e-3,
            "min_lr": 1e-6,
            "warmup_epochs": 3,
            "repeats": 1,
            "mixup": 0.0,
            "cutmix": 0.0,
            "erasing": 0.0,
            "mix_group": 0,
            "upright": True,
        },
    )


# Where a row has min_lr, it is ours: the paper's is above the row's whole schedule, or close to it.
TASKS = {
    "cifar10": Task(
        title="CIFAR-10",
        dataset="cifar10",
        classes=10,
        published_top1={
            "deit_base_patch16_224": 99.1,
            "deit_base_patch16_384": 99.1,
            "deit_base_distilled_patch16_224": 99.1,
            "deit_base_distilled_patch16_384": 99.2,
        },
        published_settings={
            "epochs": 1000,
            "batch_size": 768,
            "weight_decay": 0.05,
            "warmup_epochs": 5,
            "lr": 5e-6,  # 7.5e-6 at 768; the authors also gave the SGD of cars196
        },
        our_settings={"min_lr": 1e-6},
    ),
    "cifar100": Task(
        title="CIFAR-100",
        dataset="cifar100",
        classes=100,
        published_top1={
            "deit_base_patch16_224": 90.8,
            "deit_base_patch16_384": 90.8,
            "deit_base_distilled_patch16_224": 91.3,
            "deit_base_distilled_patch16_384": 91.4,
        },
        published_settings={
            "epochs": 1000,
            "batch_size": 768,
            "weight_decay": 0.05,
            "warmup_epochs": 5,
            "lr": 5e-6 / 1.5,  # 5e-6 at 768
        },
        our_settings={"min_lr": 1e-6},
    ),
    "oxford_flowers102": Task(
        title="Flowers-102",
        dataset="oxford_flowers102",
        classes=102,
        published_top1={
            "deit_base_patch16_224": 98.4,
            "deit_base_patch16_384": 98.5,
            "deit_base_distilled_patch16_224": 98.8,
            "deit_base_distilled_patch16_384": 98.9,
        },
        train_split="train+validation",  # the paper's 2,040 images; TFDS' train is half of them
        our_settings={  # those of cars196, another dataset of few images
            "epochs": 1000,
            "batch_size": 768,
            "optimizer": "sgd",
            "momentum": 0.9,
            "lr": 0.01,
            "weight_decay": 1e-4,
            "erasing": 0.0,
            "drop_path": 0.0,
        },
    ),
    "cars196": Task(
        title="Stanford Cars",
        dataset="cars196",
        classes=196,
        published_top1={
            "deit_base_patch16_224": 92.1,
            "deit_base_patch16_384": 93.3,
            "deit_base_distilled_patch16_224": 92.9,
            "deit_base_distilled_patch16_384": 93.9,
        },
        published_settings={
            "epochs": 1000,
            "batch_size": 768,
            "optimizer": "sgd",
            "momentum": 0.9,
            "lr": 0.01,
            "weight_decay": 1e-4,
            "erasing": 0.0,
            "drop_path": 0.0,
        },
    ),
    "i_naturalist2018": Task(
        title="iNaturalist 2018",
        dataset="i_naturalist2018",
        classes=8142,
        published_top1={
            "deit_base_patch16_224": 73.2,
            "deit_base_patch16_384": 79.5,
            "deit_base_distilled_patch16_224": 73.7,
            "deit_base_distilled_patch16_384": 80.1,
        },
        evaluation_split="validation",
        published_settings={
            "epochs": 360,
            "batch_size": 768,
            "lr": 5e-5,  # 7.5e-5 at 768
            "weight_decay": 0.05,
            "erasing": 0.1,
            "drop_path": 0.1,
        },
        our_settings={"min_lr": 1e-6},
    ),
    "i_naturalist2019": Task(
        title="iNaturalist 2019",
        dataset="i_naturalist2019",
        classes=1010,
        published_top1={
            "deit_base_patch16_224": 77.7,
            "deit_base_patch16_384": 81.4,
            "deit_base_distilled_patch16_224": 78.4,
            "deit_base_distilled_patch16_384": 83.0,
        },
        evaluation_split="validation",
        published_settings={
            "epochs": 360,
            "batch_size": 768,
            "lr": 5e-5,  # 7.5e-5 at 768
            "weight_decay": 0.05,
            "erasing": 0.1,
            "drop_path": 0.1,
        },
        our_settings={"min_lr": 1e-6},
    ),
    "oxford_iiit_pet": Task(
        title="Oxford-IIIT Pet",
        dataset="oxford_iiit_pet",
        classes=37,
        metric="per_class",
        our_settings={"epochs": 100, "batch_size": 256, "lr": 1e-4, "min_lr": 1e-6},
    ),
    "food101": Task(
        title="Food-101",
        dataset="food101",
        classes=101,
        evaluation_split="validation",
        our_settings={"epochs": 100, "batch_size": 256, "lr": 1e-4, "min_lr": 1e-6},
    ),
    "dtd": Task(
        title="DTD",
        dataset="dtd",
        classes=47,
        train_split="train+validation",
        our_settings={"epochs": 100, "batch_size": 256, "lr": 1e-4, "min_lr": 1e-6},
    ),
    "sun397": Task(
        title="SUN397",
        dataset="sun397/standard-part1-120k",
        classes=397,
        our_settings={"epochs": 100, "batch_size": 256, "lr": 1e-4, "min_lr": 1e-6},
    ),
    "digits_5to9": Task(
        title="digits 5 to 9",
        dataset="digits/5to9",
        classes=5,
        our_settings={
            "epochs": 20,
            "passes": 36,
            "batch_size": 50,
            "lr": 0.04,
            "warmup_epochs": 3,
            "train_fraction": 0.111,  # ten images of each digit
            "flip": 0.0,
            "rand_augment": False,
            "erasing": 0.0,
            "repeats": 1,
            "mix_group": 0,
            "eval_crop": 1.0,
            "drop_path": 0.0,
        },
    ),
}

PAPER = tuple(name for name, task in TASKS.items() if task.published_top1)
