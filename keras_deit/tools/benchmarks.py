"""Measurements of this machine, printed as Markdown: loading, augmentation, exports."""

import contextlib
import dataclasses
import io
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from keras_deit import data
from keras_deit.configs.preprocessing import MEAN, STD
from keras_deit.configs.recipes import RECIPES
from keras_deit.configs.variants import VARIANTS
from keras_deit.data.decode import decode
from keras_deit.data.reading import use_one_opencv_thread
from keras_deit.data.seeding import VIEW, generator
from keras_deit.data.transforms import training_view
from keras_deit.exports import export, table
from keras_deit.models.factory import build
from keras_deit.tools.peers import import_timm
from keras_deit.utils import tables
from keras_deit.weights import save_pretrained

PHOTOGRAPHS = 384  # of 500x375 pixels
IMAGE_SIZE = 224
PASSES = 4  # over the photographs, in an epoch
EPOCHS = 5
BATCH = 64
UNTIMED = 8  # the first images, which meet cold caches

MEASURED_PROCESS = """
import re, time
import keras_deit as kd
start = time.perf_counter()
model = {call}
model.count_params()
seconds = time.perf_counter() - start
# Not getrusage: its peak begins with the memory of the process that started this one.
status = open("/proc/self/status").read()
print(seconds, int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) / 1024)
"""


def loading(variant="deit_base_distilled_patch16_224"):
    """Prints the seconds and memory that it takes to load a safetensors file of random weights,
    compared with only building the model. Each is measured in a separate process.

    Args:
        variant: str. A row of ``VARIANTS``. Default "deit_base_distilled_patch16_224".
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.safetensors"
        save_pretrained(build(variant), path)
        file_size = path.stat().st_size / 2**20

        # The model itself takes memory too: what loading adds is the difference.
        load_seconds, load_memory = measure(f"kd.load({str(path)!r}, {variant!r})")
        build_seconds, build_memory = measure(f"kd.build({variant!r})")

    extra_memory = (load_memory - build_memory) / file_size
    header = ["model", "file", "build", "load", "memory beyond the built model, over the file"]
    cells = [variant, f"{file_size:.0f} MiB", f"{build_seconds:.1f} s", f"{load_seconds:.1f} s"]
    print(tables.markdown(header, [[*cells, f"{extra_memory:.2f}"]]))


def measure(call):
    """The seconds that a Python expression takes to make a model in a new process, and the most
    memory that the process had, in MiB."""
    code = MEASURED_PROCESS.format(call=call)
    process = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    seconds, memory = process.stdout.split()
    return float(seconds), float(memory)


def augmentation():
    """Prints what the published augmentation of 500x375 JPEGs to 224 pixels costs here and in timm:
    CPU time per image in one thread, and images per second with two workers.

    Raises:
        UserError: timm is not installed.
    """
    timm_transform = _timm_transform()
    with tempfile.TemporaryDirectory() as folder, posterize_to_zero_bits():
        folder = pathlib.Path(folder)
        paths = write_photographs(folder)
        files = [path.read_bytes() for path in paths]
        our_times, timm_times = _cpu_times(files, timm_transform)

        header = ["", "keras_deit", "timm", "ratio"]
        rows = []
        for name, summary in (("mean", statistics.mean), ("median", statistics.median)):
            ours, theirs = summary(our_times), summary(timm_times)
            cells = [f"{ours:.2f} ms", f"{theirs:.2f} ms", f"{ours / theirs:.2f}"]
            rows.append([f"CPU per image, {name}", *cells])
        print(tables.markdown(header, rows), flush=True)

        ours, theirs = _images_per_second(folder, paths, timm_transform)
        cells = [f"{ours:.0f} im/s", f"{theirs:.0f} im/s", f"{ours / theirs:.2f}"]
        print(tables.markdown_row(["two workers", *cells]))


def exporting():
    """Prints, for every published DeiT with random weights, each format's largest difference from
    Keras; and sizes and latencies of the smallest model."""
    names = [name for name, row in VARIANTS.items() if row.published and name.startswith("deit")]
    header = ["largest difference, float32", "SavedModel", "LiteRT", "ONNX Runtime"]
    print(tables.markdown(header, []), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in names:
            reports = [
                export(build(name), folder / f"{name}{suffix}")
                for suffix in ("", ".tflite", ".onnx")
            ]
            cells = [f"{report.difference:.1e}" for report in reports]
            print(tables.markdown_row([name, *cells]), flush=True)

        smallest = build(names[0])
        options_by_suffix = {
            ".onnx": {},
            ".tflite": {},
            "_16.tflite": {"quantize": "float16"},
            "_8.tflite": {"quantize": "dynamic"},
        }
        reports = [
            export(smallest, folder / f"{names[0]}{suffix}", overwrite=True, **options)
            for suffix, options in options_by_suffix.items()
        ]
    print(f"\n{table(reports)}")


@contextlib.contextmanager
def posterize_to_zero_bits():
    """A context in which Pillow's ``ImageOps.posterize`` treats 0 bits as 1.

    timm asks for 0 at level 10, which Pillow 13 rejects. The change is for the whole process, and
    for workers that are forked meanwhile.
    """
    from PIL import ImageOps

    posterize = ImageOps.posterize
    ImageOps.posterize = lambda image, bits: posterize(image, max(bits, 1))
    try:
        yield
    finally:
        ImageOps.posterize = posterize


def write_photographs(folder):
    """Writes parts of scikit-learn's two photographs as JPEGs, each photograph a class of
    ``folder:<folder>``. Returns the paths."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = generator(0, 0, 0)
    width, height = 500, 375
    class_folders = [folder / "train" / name for name in ("temple", "flower")]
    for class_folder in class_folders:
        class_folder.mkdir(parents=True)

    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    for number in range(PHOTOGRAPHS):
        photograph = photographs[number % 2]
        top = int(rng.integers(photograph.height - height))
        left = int(rng.integers(photograph.width - width))
        crop = photograph.crop((left, top, left + width, top + height))
        crop.save(class_folders[number % 2] / f"{number:04}.jpg", quality=90)

    return sorted((folder / "train").rglob("*.jpg"))


def _timm_transform():
    """timm's published training augmentation, a function of a Pillow image."""
    timm = import_timm()
    import torch

    torch.set_num_threads(1)
    return timm.data.create_transform(
        IMAGE_SIZE,
        is_training=True,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        re_prob=0.25,
        re_mode="pixel",
        mean=MEAN,
        std=STD,
    )


def _cpu_times(files, timm_transform):
    """Milliseconds of CPU for each file, here and in timm, taken in turn."""
    from PIL import Image

    use_one_opencv_thread()
    our_times = []
    timm_times = []
    for index, content in enumerate(files):
        start = time.thread_time()
        training_view(decode(content), (IMAGE_SIZE, IMAGE_SIZE), generator(0, 0, VIEW, index))
        between = time.thread_time()
        timm_transform(Image.open(io.BytesIO(content)).convert("RGB"))
        end = time.thread_time()

        our_times.append(1e3 * (between - start))
        timm_times.append(1e3 * (end - between))

    return our_times[UNTIMED:], timm_times[UNTIMED:]


def _images_per_second(folder, paths, timm_transform):
    """Images per second, here and in timm: the median over epochs, taken in turn."""
    import torch
    from PIL import Image

    class Files(torch.utils.data.Dataset):
        def __len__(self):
            return PASSES * len(paths)

        def __getitem__(self, index):
            return timm_transform(Image.open(paths[index % len(paths)]).convert("RGB")), 0

    loader = torch.utils.data.DataLoader(
        Files(), BATCH, shuffle=True, num_workers=2, persistent_workers=True, drop_last=True
    )
    batches = data.train(published_augmentation(folder), workers=2)

    # In turn, so that a slow minute of the machine is one for both.
    rates = {"ours": [], "timm": []}
    for _ in range(EPOCHS):
        rates["ours"].append(_rate(batches))
        rates["timm"].append(_rate(loader))
    return statistics.median(rates["ours"]), statistics.median(rates["timm"])


def published_augmentation(folder):
    """A recipe with the paper's augmentation, of the images in a folder."""
    row = RECIPES["digits_none"]
    paper = {field.name: field.default for field in dataclasses.fields(row)}
    names = ("crop", "flip", "rand_augment", "erasing", "mixup", "mix_group", "image_size")

    return dataclasses.replace(
        row,
        **{name: paper[name] for name in names},
        dataset=f"folder:{folder}",
        train_fraction=1.0,
        passes=PASSES,
        batch_size=BATCH,
    )


def _rate(batches):
    """Images per second of one epoch, from its first batch on."""
    start = None
    count = 0
    for images, _ in batches:
        if start is None:
            start = time.perf_counter()
        else:
            count += len(images)

    return count / (time.perf_counter() - start)
