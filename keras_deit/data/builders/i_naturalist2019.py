"""iNaturalist 2019, for which TFDS has no builder."""

import json
import pathlib

import tensorflow_datasets as tfds

BASE = "https://ml-inat-competition-datasets.s3.amazonaws.com/2019"
CLASSES = 1010


class INaturalist2019(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """G. Van Horn et al., the iNaturalist 2019 competition: 1,010 species, as
    github.com/visipedia/inat_comp distributes them.

    ``train_val2019.tar.gz`` holds the images of both splits, below ``train_val2019/``.
    ``train2019.json`` and ``val2019.json`` list each split's images and labels in COCO's format.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="iNaturalist 2019: photographs of 1,010 species.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(num_classes=CLASSES),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://github.com/visipedia/inat_comp/tree/master/2019",
        )

    def _split_generators(self, dl_manager):
        names = {"images": "train_val2019", "train": "train2019.json", "val": "val2019.json"}
        urls = {key: f"{BASE}/{name}.tar.gz" for key, name in names.items()}
        folders = dl_manager.download_and_extract(urls)
        folders = {key: pathlib.Path(folder) for key, folder in folders.items()}

        return {
            split: self._generate_examples(folders[key] / names[key], folders["images"])
            for split, key in (("train", "train"), ("validation", "val"))
        }

    def _generate_examples(self, annotations, images):
        content = json.loads(annotations.read_text())
        labels = {row["image_id"]: row["category_id"] for row in content["annotations"]}

        for row in content["images"]:
            image = images / row["file_name"]
            yield row["id"], {"image": image, "label": labels[row["id"]]}
