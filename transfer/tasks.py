"""The tasks that models are fine-tuned on: those of the paper (its Tables 6 and 7), and others.

A new task is a new line. What a row says of its recipe is its difference from the paper's, for
ImageNet (``Recipe``), and where that comes from: ``said`` are values that the authors gave on the
official tracker (github.com/facebookresearch/deit, issues), ``ours`` are what nobody published.
Rates are those at 512 images, as ``Recipe.lr`` is; the authors' are known after scaling with the
batch, lr * batch / 512, but for SGD's .01, of which they do not say.
"""

import pathlib
from dataclasses import dataclass, field

MODELS = (
    "deit_base_patch16_224",
    "deit_base_patch16_384",
    "deit_base_distilled_patch16_224",
    "deit_base_distilled_patch16_384",
)
WIDTHS = {192: 4, 384: 2}  # by which AdamW's rates, which are known for a width of 768, grow: ours
LARGE = 384  # pixels, from which on a batch has at most
LARGE_BATCH = 512  # images, as in the paper's own fine-tuning at that size: ours


@dataclass(frozen=True)
class Task:
    """One data set, and how a model is fine-tuned on it.

    Attributes:
        title: the name to print.
        dataset: TFDS name, or ``folder:<path>``.
        classes: how many it has; 0 for any number.
        published: top-1 in percent of each of ``MODELS``, in that order (paper, Table 7), if any.
        train, evaluation: splits, in TFDS' terms.
        metric: "top1", the share of images, or "per_class", its mean over classes.
        said, ours: fields of a ``Recipe`` that are not the paper's for ImageNet, by their source.
    """

    title: str
    dataset: str
    classes: int
    published: tuple[float, ...] = ()
    train: str = "train"
    evaluation: str = "test"
    metric: str = "top1"
    said: dict = field(default_factory=dict)
    ours: dict = field(default_factory=dict)

    def settings(self, width, image_size):
        """The fields of a ``Recipe`` for a model of that width at so many pixels."""
        fields = {**self.said, **self.ours}
        if fields.get("optimizer") != "sgd" and "lr" in fields:
            fields["lr"] *= WIDTHS.get(width, 1)
        if image_size >= LARGE and "batch_size" in fields:
            fields["batch_size"] = min(fields["batch_size"], LARGE_BATCH)
        return fields

    def score(self, model):
        """The published score of a model of that name, as a fraction; None without one."""
        published = dict(zip(MODELS, self.published, strict=False))
        return published[model] / 100 if model in published else None


_LONG = {"epochs": 1000, "batch_size": 768}
_CIFAR = {**_LONG, "weight_decay": 0.05, "warmup_epochs": 5}
_SGD = {**_LONG, "optimizer": "sgd", "momentum": 0.9, "lr": 0.01, "weight_decay": 1e-4}
_SGD |= {"erasing": 0.0, "drop_path": 0.0}
_INATURALIST = {"epochs": 360, "batch_size": 768, "lr": 5e-5, "weight_decay": 0.05}
_INATURALIST |= {"erasing": 0.1, "drop_path": 0.1}
_LEAST = {"min_lr": 1e-6}  # the paper's is above the whole schedule, or close to it
_OTHERS = {"epochs": 100, "batch_size": 256, "lr": 1e-4, **_LEAST}
# A few hundred images: an epoch of each once, mild augmentation, a short run.
_FEW = {"epochs": 30, "batch_size": 16, "lr": 1.6e-3, "min_lr": 1e-6, "warmup_epochs": 3}
_FEW |= {"repeats": 1, "mixup": 0.0, "cutmix": 0.0, "erasing": 0.0, "mix_group": 0}
_DIGITS = {"epochs": 20, "passes": 36, "batch_size": 50, "lr": 0.04, "warmup_epochs": 3}
_DIGITS |= {"train_fraction": 0.111, "flip": 0.0, "rand_augment": False, "erasing": 0.0}
_DIGITS |= {"repeats": 1, "mix_group": 0, "eval_crop": 1.0, "drop_path": 0.0}

PAPER = {
    "cifar10": Task(
        "CIFAR-10",
        "cifar10",
        10,
        (99.1, 99.1, 99.1, 99.2),
        said={**_CIFAR, "lr": 5e-6},  # 7.5e-6 at 768; cars196 has the SGD that was said as well
        ours=_LEAST,
    ),
    "cifar100": Task(
        "CIFAR-100",
        "cifar100",
        100,
        (90.8, 90.8, 91.3, 91.4),
        said={**_CIFAR, "lr": 5e-6 / 1.5},  # 5e-6 at 768
        ours=_LEAST,
    ),
    "oxford_flowers102": Task(
        "Flowers-102",
        "oxford_flowers102",
        102,
        (98.4, 98.5, 98.8, 98.9),
        train="train+validation",  # the paper's 2,040 images; TFDS' train is half of them
        ours=_SGD,  # that of the cars, of which there are few as well
    ),
    "cars196": Task("Stanford Cars", "cars196", 196, (92.1, 93.3, 92.9, 93.9), said=_SGD),
    "i_naturalist2018": Task(
        "iNaturalist 2018",
        "i_naturalist2018",
        8142,
        (73.2, 79.5, 73.7, 80.1),
        evaluation="validation",
        said=_INATURALIST,  # 7.5e-5 at 768
        ours=_LEAST,
    ),
    "i_naturalist2019": Task(
        "iNaturalist 2019",
        "i_naturalist2019",
        1010,
        (77.7, 81.4, 78.4, 83.0),
        evaluation="validation",
        said=_INATURALIST,
        ours=_LEAST,
    ),
}
TASKS = {
    **PAPER,
    "oxford_iiit_pet": Task(
        "Oxford-IIIT Pet", "oxford_iiit_pet", 37, metric="per_class", ours=_OTHERS
    ),
    "food101": Task("Food-101", "food101", 101, evaluation="validation", ours=_OTHERS),
    "dtd": Task("DTD", "dtd", 47, train="train+validation", ours=_OTHERS),
    "sun397": Task("SUN397", "sun397/standard-part1-120k", 397, ours=_OTHERS),
    "digits_5to9": Task("digits 5 to 9", "digits/5to9", 5, ours=_DIGITS),
}


def folder_task(dataset):
    """The task of a person's own images, ``folder:<path>``: see ``keras_deit/data/folders.py``."""
    path = pathlib.Path(dataset.removeprefix("folder:")).resolve()
    return Task(path.name, f"folder:{path}", 0, evaluation="validation", ours=_FEW)
