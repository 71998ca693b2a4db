"""What a training sees: every sample a pure function of recipe, epoch and place."""

import math
import threading
import warnings

import numpy as np

from keras_deit.data import datasets
from keras_deit.data.mixing import mix, smooth
from keras_deit.data.seeding import MIX, SUBSET, VIEW, generator, order
from keras_deit.data.transforms import training_view
from keras_deit.utils.errors import Unreadable, UserError

REPEATED = 256  # with repeated augmentation an epoch is a multiple of so many samples


class Samples:
    """The training samples of a recipe.

    An epoch is a sequence of samples: the images in a random order, each ``repeats`` times in a
    row, and all of that ``passes`` times, cut to the length of the data (times ``passes``). A batch
    is the next ``size`` of them, dealt out to its groups one by one, so that the views of an image
    come into different groups, as they come to different GPUs in the published training (the
    official ``samplers.py``). A group is what mixup and CutMix mix.

    Attributes:
        dataset: the ``Dataset``.
        indices: those of its images that are used.
        size, group, steps: images in a batch and in a group, batches in an epoch.
        damaged: which images could not be read, by their index, with the reason.
    """

    def __init__(self, recipe, data_dir=None):
        self.recipe = recipe
        self.dataset = datasets.load(recipe.dataset, recipe.train_split, data_dir)
        if self.dataset.num_classes < 2:
            raise UserError(f"{recipe.dataset} has one class: expected at least two")
        rng = generator(recipe.subset, 0, SUBSET)
        self.indices = self.dataset.fraction(recipe.train_fraction, rng)
        length = len(self.indices) * recipe.passes
        if recipe.repeats > 1 and length >= REPEATED:
            length = length // REPEATED * REPEATED
        self.size = min(recipe.batch_size, length)
        whole = self.size < recipe.batch_size or not recipe.mix_group
        self.group = self.size if whole else recipe.mix_group
        self.steps = length // self.size
        self.damaged, self.lock = {}, threading.Lock()
        self.shape = self.view(0, int(self.indices[0]), 0)[0].shape  # what is wrong is found now

    def group_of(self, epoch, step, number):
        """A group of a batch: float32 images (group, height, width, 3), normalised, and labels
        (group, num_classes), smoothed, both mixed."""
        recipe, groups = self.recipe, self.size // self.group
        places = step * self.size + number + groups * np.arange(self.group)
        draws, repeats = np.divmod(places, recipe.repeats)
        sequence = order(recipe.seed, epoch, len(self.indices), recipe.passes)
        rows = self.indices[sequence[draws]]
        turns = draws // len(self.indices) * recipe.repeats + repeats  # how often seen before
        images = _aligned((self.group, *self.shape))
        keys = zip(rows.tolist(), turns.tolist(), images, strict=True)
        labels = np.array([self.view(epoch, *key)[1] for key in keys])
        labels = smooth(labels, self.dataset.num_classes, recipe.label_smoothing)
        rng = generator(recipe.seed, epoch, MIX, step * groups + number, self.size)
        return mix(images, labels, recipe.mixup, recipe.cutmix, rng)

    def view(self, epoch, index, turn, out=None):
        """One augmented image, float32, written to ``out`` where that is given, and its label.
        Where an image cannot be read, it is the next one's."""
        image, label, index = self._readable(index)
        rng = generator(self.recipe.seed, epoch, VIEW, index, turn)
        recipe = self.recipe
        view = training_view(
            image,
            (recipe.image_size,) * 2,
            rng,
            pad=recipe.pad if recipe.crop == "padded" else None,
            flip=recipe.flip,
            rand_augment=recipe.rand_augment,
            erasing=recipe.erasing,
            out=out,
        )
        return view, label

    def _readable(self, index):
        at = int(np.searchsorted(self.indices, index))
        for row in np.roll(self.indices, -at).tolist() if index in self.damaged else (index,):
            if row not in self.damaged:
                try:
                    return *self.dataset[row], row
                except Unreadable as error:
                    self._report(row, str(error))
                    return self._readable(row)
        raise UserError(f"no readable image in {self.dataset.name}")

    def _report(self, index, reason):
        with self.lock:
            new = index not in self.damaged
            self.damaged[index] = reason
            count = len(self.damaged)
        if new:
            warnings.warn(f"{reason}: left out, number {count}", stacklevel=2)
        if count > self.recipe.max_damaged:
            raise too_many(count, reason, self.recipe.max_damaged)


def too_many(count, reason, allowed):
    """The UserError of so many damaged images, the last for that reason."""
    if not allowed:
        return UserError(reason)
    return UserError(
        f"{count} damaged images, the last {reason}: max_damaged={allowed} are allowed: mend the"
        " data, or allow more"
    )


def _aligned(shape):
    """An empty float32 array that begins at a multiple of 64 bytes: TensorFlow takes such a one as
    it is, and copies others, which costs a tenth of the time to make a batch."""
    raw = np.empty(math.prod(shape) + 16, np.float32)
    first = -raw.ctypes.data // 4 % 16
    return raw[first : first + math.prod(shape)].reshape(shape)
