"""Stored targets as a recipe reads them: checked to be of its views and its teachers."""

import functools
import json
import pathlib

import numpy as np

from keras_deit.data.targets import decode, epoch_file, read_description
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import sha256
from keras_deit.utils.paths import expand_home

COMPARED = 4  # views whose mean colors are compared
COLOR_TOLERANCE = 0.02  # of a normalized image: decoders differ, not augmentations


def describe_views(samples):
    """What the views of a recipe depend on, a dict of JSON values: two with the same are the same.

    Args:
        samples: ``Samples``.
    """
    content = samples.dataset.content
    means = [
        samples.make_view(0, int(index), 0)[0].mean(axis=(0, 1), dtype=np.float64)
        for index in samples.indices[:COMPARED]
    ]
    return {
        **samples.fields,
        "images": len(samples.indices),
        "steps": samples.steps,
        "classes": list(samples.dataset.class_names),
        "content": content["content"],
        "colors": [[round(float(mean), 4) for mean in row] for row in means],
    }


def check_views(folder, stored, views):
    """Checks that stored targets are of the views that a recipe sees.

    Args:
        folder: that of the targets, for the error.
        stored: what ``describe_views`` gave when they were made, as JSON gave it back.
        views: what it gives now.

    Raises:
        UserError: they are of other views. It names the first field with both values.
    """
    for name, now in views.items():
        before = stored.get(name)
        if name == "colors":
            if np.shape(before) == np.shape(now) and np.allclose(before, now, atol=COLOR_TOLERANCE):
                continue
            raise UserError(
                f"targets {folder} are of other images: the first views have the mean colors"
                f" {before[0]} there and {now[0]} here: expected the same data and library"
            )

        if json.loads(json.dumps(now)) != before:
            if name == "classes" and isinstance(before, list) and len(before) != len(now):
                before, now = len(before), len(now)
            elif name == "classes":
                pairs = zip(before, now, strict=True)
                before, now = next(pair for pair in pairs if pair[0] != pair[1])
            raise UserError(
                f"targets {folder} are of other views: {name} {before!r} there, {now!r} in this"
                " recipe: expected the recipe that they were labeled with, or label again"
            )


class StoredTargets:
    """The targets in a folder, checked to be whole and of a recipe's views.

    Args:
        folder: str or path.
        samples: ``Samples`` of the recipe.

    Attributes:
        description: the content of ``targets.json``.

    Raises:
        UserError: there are none, or they are unfinished, corrupt, or of other views, epochs,
            teachers or another kind than the recipe's.
    """

    def __init__(self, folder, samples):
        self.folder = pathlib.Path(expand_home(folder))
        self.num_classes = samples.dataset.num_classes
        self.description = read_description(self.folder)
        if self.description is None:
            raise UserError(
                f"no targets in {self.folder}: expected a folder that python -m scripts.label wrote"
            )

        check_views(self.folder, self.description["views"], describe_views(samples))
        self._check_recipe(samples.recipe)
        self._check_files()
        # An epoch is read while the last batches of the one before are made.
        self._arrays = functools.lru_cache(maxsize=2)(self._read)

    def logits(self, epoch, step, rows):
        """The targets of some rows of a batch, as logits; see ``decode``.

        Args:
            epoch, step: ints.
            rows: slice.
        """
        arrays = {name: array[step, rows] for name, array in self._arrays(epoch).items()}
        return decode(arrays, self.num_classes)

    def _read(self, epoch):
        from safetensors.numpy import load_file

        return load_file(epoch_file(self.folder, epoch))

    def _check_recipe(self, recipe):
        description = self.description
        if recipe.distillation == "soft" and description["kind"] == "hard":
            raise UserError(
                f"targets {self.folder} are hard decisions: expected distillation=hard, or targets"
                " labeled with distillation=soft"
            )

        needed = recipe.target_epochs or recipe.epochs
        if needed > description["epochs"]:
            field = "target_epochs" if recipe.target_epochs else "epochs"
            raise UserError(
                f"targets {self.folder} are of {description['epochs']} epochs, and {field} is"
                f" {needed}: expected target_epochs={description['epochs']}, which sees them again,"
                " or label more"
            )

        if recipe.teacher:
            check_teachers(self.folder, description["teachers"], identify_teachers(recipe.teacher))

    def _check_files(self):
        """That every epoch is there with the content that was written."""
        files = self.description["files"]
        missing = self.description["epochs"] - len(files)
        if missing:
            raise UserError(
                f"targets {self.folder} are unfinished, {missing} of"
                f" {self.description['epochs']} epochs are missing: run scripts.label again"
            )

        for epoch in range(self.description["epochs"]):
            path = epoch_file(self.folder, epoch)
            try:
                digest = sha256(path)
            except OSError as error:
                raise UserError(
                    f"cannot read {path}: {error.strerror}: run scripts.label again"
                ) from error
            if digest != files[str(epoch)]:
                raise UserError(
                    f"{path} was changed after it was written: expected SHA-256"
                    f" {files[str(epoch)][:12]}..., found {digest[:12]}...; delete it and run"
                    " scripts.label again"
                )


def identify_teachers(names):
    """What teachers are known by without loading them: a list of {"name": str, "file": the SHA-256
    of a file's content, or None of a published model or recipe}."""
    return [
        {"name": name, "file": sha256(name) if pathlib.Path(name).is_file() else None}
        for name in names
    ]


def check_teachers(folder, stored, teachers):
    """Checks that targets are of the teachers that a recipe names. A file may have moved.

    Raises:
        UserError: they are of others.
    """

    def keys(entries):
        return [entry["file"] or entry["name"] for entry in entries]

    if keys(stored) != keys(teachers):
        before, now = (",".join(entry["name"] for entry in list_) for list_ in (stored, teachers))
        if before == now:
            now += " (of another content)"
        raise UserError(
            f"targets {folder} are of another teacher: {before} there, {now} in this recipe:"
            " expected the same, or teacher=none"
        )
