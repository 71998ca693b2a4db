"""Checks of a run's data: the same classes in both splits, and the same data when it resumes."""

from keras_deit.utils.errors import UserError

SHOWN = 5  # names of a difference


def describe(training, validation):
    """Describes a run's data in JSON values, for a later start of the run to compare.

    Args:
        training, validation: ``BatchInfo`` of both splits.

    Returns:
        A dict from each of "training" and "validation" to a dict of "images", "classes" and
        "content" (see ``Dataset.content``), and in training "steps", those of an epoch.
    """
    # Not the steps of the validation, which depend on the number of processes.
    return {
        "training": {"images": training.images, "steps": training.steps, **training.content},
        "validation": {"images": validation.images, **validation.content},
    }


def check_same_data(workdir, before, now):
    """Checks that a run resumes with the data it was started with.

    Args:
        workdir: the run's folder.
        before: what ``describe`` gave, as JSON gave it back.
        now: what ``describe`` gives now.

    Raises:
        UserError: they differ. It names the split, and both numbers of images, steps and classes.
    """
    changes = [
        f"{split}: {', '.join(_changes(before[split], now[split]))}"
        for split in now
        if list(before[split]["classes"]) != list(now[split]["classes"])
        or before[split] != now[split]
    ]
    if changes:
        raise UserError(
            f"workdir {workdir} was started with other data ({'; '.join(changes)}): restore"
            " the data, or choose another workdir"
        )


def check_classes(training, validation, recipe):
    """Checks that both splits of a recipe's data have the same classes, of the expected number.

    Args:
        training, validation: batches or datasets, with ``num_classes`` and ``class_names``.
        recipe: a ``Recipe``.

    Raises:
        UserError: they differ, or their number is another.
    """
    if recipe.classes and training.num_classes != recipe.classes:
        raise UserError(
            f"{recipe.dataset} has {training.num_classes} classes: expected {recipe.classes}; is it"
            " another dataset, or another version of it?"
        )

    if training.class_names != validation.class_names:
        only_one = sorted(set(training.class_names) ^ set(validation.class_names))
        names = ", ".join(only_one[:10]) + ", ..." * (len(only_one) > 10)
        raise UserError(
            f"{recipe.dataset}: {recipe.train_split} has {training.num_classes} classes and"
            f" {recipe.validation_split} {validation.num_classes}; only one split has: {names}"
        )


def _changes(before, now):
    """The differences between two descriptions of a split, as texts."""
    changes = [
        f"{name} {before[name]:,} -> {now[name]:,}"
        for name in ("images", "steps")
        if before.get(name) != now.get(name)
    ]

    old, new = before["classes"], now["classes"]
    resized = [name for name in new if name in old and old[name] != new[name]]
    texts = {
        "new classes": [name for name in new if name not in old],
        "missing classes": [name for name in old if name not in new],
        "images of": [f"{name} {old[name]} -> {new[name]}" for name in resized],
    }
    changes += [f"{title} {_first(names)}" for title, names in texts.items() if names]

    # With as many images of the same classes, only their names or an order can differ.
    if not changes and list(old) != list(new):
        changes.append(f"order of the classes {_first(list(old))} -> {_first(list(new))}")
    if not changes:
        changes.append(f"names or order of the images, {before['content']} -> {now['content']}")
    return changes


def _first(names):
    return ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)
