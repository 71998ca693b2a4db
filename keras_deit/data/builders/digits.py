"""The embedded dataset: the 1,797 handwritten digits of scikit-learn, through a TFDS builder.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, 1998. Nothing is downloaded.
"""

import numpy as np
import tensorflow_datasets as tfds

# The digits of each configuration: "0to4" is there to train on, "5to9" to transfer to.
CONFIGS = {"all": "0123456789", "0to4": "01234", "5to9": "56789"}
SPLITS = {"train": 0.5, "validation": 0.2, "test": 0.3}  # fractions of each digit's images


class Digits(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """8x8 handwritten digits, gray levels 0 to 16 spread over 0 to 255."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012 TFDS reads a list
        tfds.core.BuilderConfig(name=name, description=f"The digits {digits}.")
        for name, digits in CONFIGS.items()
    ]

    def _info(self):
        class_names = list(CONFIGS[self.builder_config.name])
        return self.dataset_info_from_configs(
            description="8x8 handwritten digits, as scikit-learn ships them.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=class_names),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # there is nothing to download
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.round(digits.images[..., None] * (255 / 16)).astype(np.uint8)
        cumulative = np.cumsum(list(SPLITS.values()))

        # Each digit's images are split by themselves, in scikit-learn's order.
        examples = {split: [] for split in SPLITS}
        for class_name in CONFIGS[self.builder_config.name]:
            indices = np.flatnonzero(digits.target == int(class_name))
            bounds = np.round(cumulative * len(indices)).astype(int)
            runs = np.split(indices, bounds[:-1])
            for split, run in zip(SPLITS, runs, strict=True):
                examples[split] += [(int(index), images[index], class_name) for index in run]

        return {split: self._generate_examples(rows) for split, rows in examples.items()}

    def _generate_examples(self, rows):
        for index, image, label in rows:
            yield index, {"image": image, "label": label}
