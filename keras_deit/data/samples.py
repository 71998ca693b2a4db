"""Training samples: each a pure function of recipe, epoch and position."""

import dataclasses

import numpy as np

from keras_deit.configs.preprocessing import IMAGENET
from keras_deit.data import datasets
from keras_deit.data.mixing import mix, smooth
from keras_deit.data.reading import UnreadableImages, try_read
from keras_deit.data.seeding import MIX, SUBSET, VIEW, epoch_order, generator
from keras_deit.data.streaming import aligned_empty
from keras_deit.data.transforms import training_view
from keras_deit.utils.errors import UserError
from keras_deit.utils.paths import FOLDER

REPEATED = 256  # with repeated augmentation an epoch is a multiple of so many samples

# The fields of a recipe that its views depend on, beside those of its batches and its seed.
VIEW_FIELDS = (
    *("train_split", "train_fraction", "subset", "passes", "image_size", "crop", "pad", "flip"),
    *("rand_augment", "erasing", "repeats", "mixup", "cutmix"),
)


class Samples:
    """The training samples of a recipe.

    An epoch is a sequence of samples: the images in a random order, each ``repeats`` times in a
    row, and all of that ``passes`` times, cut to the length of the data (times ``passes``). A batch
    is the next ``batch_size`` samples, dealt out to its groups one by one, so that the views of an
    image come into different groups, as they come to different GPUs in the published training (the
    official ``samplers.py``). A group is what mixup and CutMix mix.

    Attributes:
        dataset: the ``Dataset``.
        indices: int array of its images that are used.
        batch_size, group_size: ints. Images in a batch and in a group.
        steps: int. Batches in an epoch.
        seed: int. That of the order and the views.
        image_shape: (height, width, 3) of a view.
        unreadable: ``UnreadableImages``. Each is replaced by the next image that can be read.
    """

    def __init__(self, recipe, data_dir=None, preprocessing=IMAGENET):
        self.recipe = recipe
        self.preprocessing = preprocessing
        self.seed = recipe.seed if recipe.data_seed is None else recipe.data_seed
        self.upright = recipe.upright or preprocessing.upright
        self.dataset = datasets.load(recipe.dataset, recipe.train_split, data_dir, self.upright)
        if self.dataset.num_classes < 2:
            raise UserError(f"{recipe.dataset} has one class: expected at least two")

        rng = generator(recipe.subset, 0, SUBSET)
        self.indices = self.dataset.subset_indices(recipe.train_fraction, rng)
        self.unreadable = UnreadableImages(recipe.train_split, recipe.max_damaged)

        length = len(self.indices) * recipe.passes
        if recipe.repeats > 1 and length >= REPEATED:
            length = length // REPEATED * REPEATED
        self.batch_size = min(recipe.batch_size, length)
        self.steps = length // self.batch_size

        # A batch that the data does not fill need not divide into groups.
        is_one_group = self.batch_size < recipe.batch_size or not recipe.mix_group
        self.group_size = self.batch_size if is_one_group else recipe.mix_group

        # A first view, so that wrong settings fail here and not in a thread.
        first_view, _ = self.make_view(0, int(self.indices[0]), 0)
        self.image_shape = first_view.shape

    @property
    def fields(self):
        """A dict of JSON values: the settings that the views depend on."""
        recipe = self.recipe
        return {
            # A folder is known by its content: it may be elsewhere on another machine.
            "dataset": "folder" if recipe.dataset.startswith(FOLDER) else recipe.dataset,
            **{name: getattr(recipe, name) for name in VIEW_FIELDS},
            "batch_size": self.batch_size,
            "mix_group": self.group_size,
            "seed": self.seed,
            "preprocessing": {**dataclasses.asdict(self.preprocessing), "upright": self.upright},
        }

    def epoch_of_views(self, epoch):
        """The epoch whose views an epoch shows: itself, unless a few are seen in turn."""
        return epoch % self.recipe.target_epochs if self.recipe.target_epochs else epoch

    def make_group(self, epoch, step, group):
        """One group of a batch.

        Args:
            epoch, step, group: ints. The group's number is within its batch.

        Returns:
            float32 images (group_size, height, width, 3), normalized, and float32 labels
            (group_size, num_classes), smoothed; both mixed.
        """
        recipe = self.recipe
        epoch = self.epoch_of_views(epoch)
        group_count = self.batch_size // self.group_size

        # Each sample's position in the epoch, then its image, and how often the epoch showed that
        # image before.
        positions = step * self.batch_size + group + group_count * np.arange(self.group_size)
        draws, repeats = np.divmod(positions, recipe.repeats)
        order = epoch_order(self.seed, epoch, len(self.indices), recipe.passes)
        indices = self.indices[order[draws]]
        views_before = draws // len(self.indices) * recipe.repeats + repeats

        images = aligned_empty((self.group_size, *self.image_shape))
        labels = np.empty(self.group_size, np.int64)
        keys = zip(indices.tolist(), views_before.tolist(), strict=True)
        for row, (index, view) in enumerate(keys):
            _, labels[row] = self.make_view(epoch, index, view, out=images[row])

        labels = smooth(labels, self.dataset.num_classes, recipe.label_smoothing)
        rng = generator(self.seed, epoch, MIX, step * group_count + group, self.batch_size)
        return mix(images, labels, recipe.mixup, recipe.cutmix, rng)

    def make_view(self, epoch, index, view, out=None):
        """One augmented image and its label.

        Args:
            epoch: int.
            index: int. An image of the dataset; if it is unreadable, the next one is used.
            view: int. How often the epoch showed the image before.
            out: float32 array of the view's shape to write it to. Default: a new one.

        Returns:
            (float32 (height, width, 3), normalized; int).
        """
        recipe = self.recipe
        image, label, index = self._read(index)

        rng = generator(self.seed, epoch, VIEW, index, view)
        augmented = training_view(
            image,
            (recipe.image_size, recipe.image_size),
            rng,
            pad=recipe.pad if recipe.crop == "padded" else None,
            flip=recipe.flip,
            rand_augment=recipe.rand_augment,
            erasing=recipe.erasing,
            out=out,
            preprocessing=self.preprocessing,
        )
        return augmented, label

    def _read(self, index):
        """(image, label, index) of an image, or of the next one that can be read."""
        start = int(np.searchsorted(self.indices, index))

        for offset in range(len(self.indices)):
            candidate = int(self.indices[(start + offset) % len(self.indices)])
            if candidate in self.unreadable.reasons:
                continue
            example, reason = try_read(self.dataset.__getitem__, candidate)
            if reason is None:
                return *example, candidate
            self.unreadable.add(candidate, reason)

        raise UserError(f"no readable image in {self.dataset.name}")
