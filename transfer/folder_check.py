"""A person's own images, looked at before they are trained on."""

import collections
import functools
import warnings
from concurrent.futures import ThreadPoolExecutor

import keras

from keras_deit.data import datasets
from keras_deit.utils.errors import Unreadable, UserError

SHOWN = 10  # names in a message


def examine(recipe, quiet=False):
    """Reads every image of a recipe's folder, says how many there are of each class in each part,
    and names those that cannot be read, which the training leaves out.

    Raises:
        UserError: one class alone, too many images that cannot be read, or all those of a class.
    """
    splits = dict.fromkeys((recipe.train_split, recipe.validation_split))
    _examined(recipe.dataset, tuple(splits), recipe.max_damaged, quiet)


@functools.cache  # for several models and seeds
def _examined(dataset, splits, max_damaged, quiet):
    parts = {split: datasets.load(dataset, split) for split in splits}
    names = parts[splits[0]].class_names
    if len(names) < 2:
        raise UserError(
            f"{dataset} has one class, {names[0]}: expected two or more, a folder of images for"
            " each"
        )
    total = sum(map(len, parts.values()))
    bar = keras.utils.Progbar(total, unit_name="image", verbose=0 if quiet else 1)
    counts, reasons = {}, []
    for split, part in parts.items():
        counts[split] = collections.Counter()
        for label, reason in _read(part, bar):
            counts[split][label] += reason is None
            reasons += [reason] if reason else []
    if not quiet:
        print(_table(names, counts), flush=True)
    if reasons:
        more = f" and {len(reasons) - SHOWN} more" * (len(reasons) > SHOWN)
        text = (
            f"{len(reasons)} of {total} images cannot be read: {'; '.join(reasons[:SHOWN])}{more}"
        )
        if len(reasons) > max_damaged:
            raise UserError(f"{text}: remove or replace them, or set max_damaged")
        warnings.warn(f"{text}: they are left out", stacklevel=2)
    for split, count in counts.items():
        gone = [names[label] for label in sorted(count) if not count[label]]
        if gone:
            raise UserError(
                f"{dataset}: none of the images of {', '.join(gone)} for {split} can be"
                " read: replace them, or remove the class"
            )


def _read(part, bar):
    """(label, None or why it cannot be read) of each image."""

    def one(index):
        label = part.source.files[index][1]
        try:
            part[index]
        except Unreadable as error:
            return label, str(error)
        return label, None

    with ThreadPoolExecutor() as pool:
        for found in pool.map(one, range(len(part))):
            bar.add(1)
            yield found


def _table(names, counts):
    lines = [f"| class | {' | '.join(counts)} |", f"| --- |{' ---: |' * len(counts)}"]
    for label, name in enumerate(names):
        lines.append(f"| {name} | {' | '.join(str(count[label]) for count in counts.values())} |")
    return "\n".join(lines)
