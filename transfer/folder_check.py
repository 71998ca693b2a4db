"""Checks a user's image folder before training: its classes, and which images are unreadable."""

import collections
import functools
import warnings

from keras_deit.data import datasets
from keras_deit.data.reading import read_images
from keras_deit.utils import logs, tables
from keras_deit.utils.errors import UserError
from keras_deit.utils.progress import progress_bar

NAMED_IN_MESSAGE = 10  # unreadable images, at most


def examine(recipe):
    """Reads every image of a recipe's folder, prints how many each class has in each split, and
    warns of unreadable images, which training leaves out.

    Args:
        recipe: a ``Recipe`` whose dataset is ``folder:<path>``.

    Raises:
        UserError: there is a single class, more than ``max_damaged`` images are unreadable, or all
            those of one class.
    """
    splits = dict.fromkeys((recipe.train_split, recipe.validation_split))
    _examined(recipe.dataset, tuple(splits), recipe.max_damaged)


@functools.cache  # several models and seeds train on the same folder
def _examined(dataset_name, splits, max_damaged):
    datasets_by_split = {split: datasets.load(dataset_name, split) for split in splits}
    class_names = datasets_by_split[splits[0]].class_names
    if len(class_names) < 2:
        raise UserError(
            f"{dataset_name} has one class, {class_names[0]}: expected two or more, a folder of"
            " images for each"
        )

    counts, reasons = _count_readable(datasets_by_split)
    logs.info(_table(counts))

    if reasons:
        total = sum(map(len, datasets_by_split.values()))
        text = _unreadable_text(reasons, total)
        if len(reasons) > max_damaged:
            raise UserError(f"{text}: remove or replace them, or set max_damaged")
        warnings.warn(f"{text}: they are skipped", stacklevel=2)

    _check_every_class(dataset_name, counts)


def _count_readable(datasets_by_split):
    """The number of readable images, by split and class name, and the reasons of the others."""
    counts = {}
    reasons = []
    bar = progress_bar(sum(map(len, datasets_by_split.values())), "image")

    for split, dataset in datasets_by_split.items():
        counts[split] = collections.Counter()
        for index, _, reason in read_images(dataset.__getitem__, range(len(dataset))):
            label = dataset.source.files[index][1]
            # By name: the splits may have different classes, which the table has to show.
            name = dataset.class_names[label]
            counts[split][name] += reason is None  # 0 too: a class without any must be listed
            if reason is not None:
                reasons.append(reason)
            bar.add(1)

    return counts, reasons


def _unreadable_text(reasons, total):
    named = "; ".join(reasons[:NAMED_IN_MESSAGE])
    rest = len(reasons) - NAMED_IN_MESSAGE
    more = f" and {rest} more" if rest > 0 else ""

    return f"{len(reasons)} of {total} images cannot be read: {named}{more}"


def _check_every_class(dataset_name, counts):
    """Raises UserError if a class has no readable image in a split."""
    for split, count in counts.items():
        missing = sorted(name for name in count if not count[name])
        if missing:
            raise UserError(
                f"{dataset_name}: none of the images of {', '.join(missing)} for {split} can be"
                " read: replace them, or remove the class"
            )


def _table(counts):
    class_names = sorted(set().union(*counts.values()))
    rows = [[name, *(count[name] for count in counts.values())] for name in class_names]
    return tables.markdown(["class", *counts], rows)
