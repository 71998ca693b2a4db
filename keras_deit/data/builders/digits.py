"""The embedded data set: the 1,797 handwritten digits of scikit-learn, through a TFDS builder.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, 1998. Nothing is downloaded.
"""

import numpy as np
import tensorflow_datasets as tfds

KINDS = {"all": "0123456789", "0to4": "01234", "5to9": "56789"}  # one to learn, one to transfer to
SPLITS = {"train": 0.5, "validation": 0.2, "test": 0.3}  # of each digit's images


def _configs():
    return [
        tfds.core.BuilderConfig(name=name, description=f"The digits {kinds}.")
        for name, kinds in KINDS.items()
    ]


class Digits(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """8x8 handwritten digits, grey levels 0 to 16 spread over 0 to 255."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = _configs()

    def _info(self):
        return self.dataset_info_from_configs(
            description="8x8 handwritten digits, as scikit-learn ships them.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(KINDS[self.builder_config.name])),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.round(digits.images[..., None] * (255 / 16)).astype(np.uint8)
        parts = {split: [] for split in SPLITS}
        for kind in KINDS[self.builder_config.name]:
            rows = np.flatnonzero(digits.target == int(kind))
            bounds = np.round(np.cumsum(list(SPLITS.values())) * len(rows)).astype(int)
            for split, part in zip(SPLITS, np.split(rows, bounds[:-1]), strict=True):
                parts[split].extend((int(row), images[row], kind) for row in part)
        return {split: self._generate_examples(rows) for split, rows in parts.items()}

    def _generate_examples(self, rows):
        for row, image, label in rows:
            yield row, {"image": image, "label": label}
