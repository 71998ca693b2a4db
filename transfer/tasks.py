"""The paper's transfer tasks as data (Tables 6 and 7): one frozen row each.

A new task is a new line.
"""

from dataclasses import dataclass

MODELS = (
    "deit_base_patch16_224",
    "deit_base_patch16_384",
    "deit_base_distilled_patch16_224",
    "deit_base_distilled_patch16_384",
)


@dataclass(frozen=True)
class Task:
    """One data set.

    Attributes:
        title: the name to print.
        dataset: TFDS name, or None where TFDS has none.
        classes: how many.
        train, evaluation: splits, in TFDS' terms.
        published: top-1 in percent of each of ``MODELS``, in that order (paper, Table 7).
    """

    title: str
    dataset: str | None
    classes: int
    published: tuple[float, float, float, float]
    train: str = "train"
    evaluation: str = "test"


TASKS = {
    "cifar10": Task("CIFAR-10", "cifar10", 10, (99.1, 99.1, 99.1, 99.2)),
    "cifar100": Task("CIFAR-100", "cifar100", 100, (90.8, 90.8, 91.3, 91.4)),
    "oxford_flowers102": Task(
        "Flowers-102",
        "oxford_flowers102",
        102,
        (98.4, 98.5, 98.8, 98.9),
        train="train+validation",  # the paper's 2,040 images; TFDS' train is half of them
    ),
    "cars196": Task("Stanford Cars", "cars196", 196, (92.1, 93.3, 92.9, 93.9)),
    "i_naturalist2018": Task(
        "iNaturalist 2018",
        "i_naturalist2018",
        8142,
        (73.2, 79.5, 73.7, 80.1),
        evaluation="validation",
    ),
    "i_naturalist2019": Task(
        "iNaturalist 2019", None, 1010, (77.7, 81.4, 78.4, 83.0), evaluation="validation"
    ),
}
