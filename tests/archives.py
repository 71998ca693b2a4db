"""The files of the transfer datasets as they are published, with a handful of images."""

import io
import json
import tarfile

import numpy as np
import scipy.io
from PIL import Image


def jpeg(seed, size=(24, 20)):
    """The bytes of a JPEG of ``size``, (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 255, (2, 2, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(file, "JPEG")
    return file.getvalue()


def archive(path, files):
    """Writes a tar file, compressed unless it ends in ``.tar``, from a dict of contents by name."""
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def matlab(content):
    """The bytes of a .mat file."""
    file = io.BytesIO()
    scipy.io.savemat(file, content)
    return file.getvalue()


def cifar(folder):
    """CIFAR-10 and CIFAR-100: binary files; an image is a byte per label and 3,072 pixels."""
    rng = np.random.default_rng(0)

    def batch(labels):
        return b"".join(
            bytes(row) + rng.integers(0, 256, 3072, np.uint8).tobytes() for row in labels
        )

    ten, hundred = "cifar-10-batches-bin", "cifar-100-binary"
    files = {f"{ten}/data_batch_{i}.bin": batch([[i], [i + 4]]) for i in range(1, 6)}
    files[f"{ten}/test_batch.bin"] = batch([[3], [5]])
    files[f"{ten}/batches.meta.txt"] = "\n".join(f"thing {i}" for i in range(10)).encode()
    archive(folder / "cifar-10-binary.tar.gz", files)

    files = {f"{hundred}/train.bin": batch([[i % 20, i] for i in range(0, 100, 10)])}
    files[f"{hundred}/test.bin"] = batch([[1, 99], [2, 0]])
    for kind, count in (("fine", 100), ("coarse", 20)):
        names = "\n".join(f"{kind} {i}" for i in range(count)).encode()
        files[f"{hundred}/{kind}_label_names.txt"] = names
    archive(folder / "cifar-100-binary.tar.gz", files)


def flowers(folder):
    """Flowers-102: numbered images, and .mat files of their labels, from 1, and splits."""
    images = {f"jpg/image_{i:05}.jpg": jpeg(i) for i in range(1, 13)}
    archive(folder / "102flowers.tgz", images)
    labels = np.array([[1, 102, *range(2, 12)]], np.uint8)
    (folder / "imagelabels.mat").write_bytes(matlab({"labels": labels}))
    splits = {"trnid": [1, 2, 3, 4], "valid": [5, 6, 7, 8], "tstid": [9, 10, 11, 12]}
    (folder / "setid.mat").write_bytes(
        matlab({name: np.array([ids], np.uint16) for name, ids in splits.items()})
    )


def cars(folder):
    """Stanford Cars: images of both splits, and .mat files with a row for each."""
    folder.mkdir(parents=True, exist_ok=True)

    def annotations(labels):
        kinds = [("bbox_x1", "O"), ("bbox_y1", "O"), ("bbox_x2", "O"), ("bbox_y2", "O")]
        rows = np.zeros((1, len(labels)), [*kinds, ("class", "O"), ("fname", "O")])
        for i, label in enumerate(labels):
            rows[0, i] = (1, 2, 20, 18, label, f"{i + 1:05}.jpg")
        return matlab({"annotations": rows})

    for split in ("train", "test"):
        images = {f"cars_{split}/{i + 1:05}.jpg": jpeg(i) for i in range(2)}
        archive(folder / f"cars_{split}.tgz", images)
    archive(folder / "car_devkit.tgz", {"devkit/cars_train_annos.mat": annotations([1, 196])})
    (folder / "cars_test_annos_withlabels.mat").write_bytes(annotations([5, 14]))


def inaturalist(folder, year, labels, validation):
    """iNaturalist: one archive of images, and JSON in COCO's format for each split. The last
    ``validation`` images are the validation split."""
    names = {i: f"train_val{year}/Birds/{i % 3}/{i:032x}.jpg" for i in range(len(labels))}
    archive(folder / f"train_val{year}.tar.gz", {names[i]: jpeg(i) for i in names})
    first = len(labels) - validation
    for split, rows in (("train", range(first)), ("val", range(first, len(labels)))):
        content = {
            "images": [{"id": i, "file_name": names[i]} for i in rows],
            "annotations": [{"image_id": i, "category_id": labels[i]} for i in rows],
            "categories": [{"id": i, "supercategory": "Aves"} for i in range(max(labels) + 1)],
        }
        text = json.dumps(content).encode()
        archive(folder / f"{split}{year}.json.tar.gz", {f"{split}{year}.json": text})


def inaturalist_2018(folder, names):
    """With its test split, which has no labels, and the list of categories."""
    inaturalist(folder, 2018, [7, 8141, 0, 500, 500], 2)
    archive(folder / "test2018.tar.gz", {f"test2018/{9:032x}.jpg": jpeg(9)})
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    archive(folder / "categories.json.tar.gz", {"categories.json": json.dumps(categories).encode()})


def inaturalist_2019(folder):
    inaturalist(folder, 2019, [7, 1009, 0, 500, 500], 2)
