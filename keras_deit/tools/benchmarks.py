"""Measurements behind the figures of README.md, printed as Markdown."""

import dataclasses
import io
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from keras_deit import data
from keras_deit.configs.recipes import RECIPES
from keras_deit.configs.variants import MEAN, STD, VARIANTS
from keras_deit.data.decode import decode
from keras_deit.data.reading import use_one_opencv_thread
from keras_deit.data.seeding import generator
from keras_deit.data.transforms import training_view
from keras_deit.exports import export, table
from keras_deit.models.factory import build
from keras_deit.utils.errors import UserError
from keras_deit.weights import save_pretrained

_CHILD = """
import resource, sys, time
import keras_deit as kd
start = time.perf_counter()
model = {call}
model.count_params()
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def loading(variant="deit_base_distilled_patch16_224"):
    """Seconds and memory to load ``variant`` from a safetensors file of random weights, each in a
    process of its own, against building it alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.safetensors"
        save_pretrained(build(variant), path)
        size = path.stat().st_size / 2**20
        seconds, peak = _child(f"kd.load({str(path)!r}, {variant!r})")
        built, base = _child(f"kd.build({variant!r})")
    print("| model | file | build | load | memory beyond the built model, over the file |")
    print("| --- | ---: | ---: | ---: | ---: |")
    extra = (peak - base) / size
    print(f"| {variant} | {size:.0f} MiB | {built:.1f} s | {seconds:.1f} s | {extra:.2f} |")


def _child(call):
    code = _CHILD.format(call=call)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


PHOTOGRAPHS, PASSES, ROUNDS, BATCH = 384, 4, 5, 64


def pipeline():
    """The published augmentation of 500x375 JPEGs to 224 pixels, ours and timm's in turn: CPU time
    per image in one thread, and images per second with two workers."""
    use_one_opencv_thread()  # the CPU time of one thread is measured
    timm = _timm_transform()
    with tempfile.TemporaryDirectory() as folder:
        paths = _photographs(pathlib.Path(folder))
        ours, theirs = _cpu_times([path.read_bytes() for path in paths], timm)
        print("| | keras_deit | timm | ratio |")
        print("| --- | ---: | ---: | ---: |")
        for name, of in (("mean", statistics.mean), ("median", statistics.median)):
            cells = f"{of(ours):.2f} ms | {of(theirs):.2f} ms | {of(ours) / of(theirs):.2f}"
            print(f"| CPU per image, {name} | {cells} |")
        ours, theirs = _throughputs(pathlib.Path(folder), paths, timm)
        print(f"| two workers | {ours:.0f} im/s | {theirs:.0f} im/s | {ours / theirs:.2f} |")


def _timm_transform():
    try:
        import torch
    except ImportError as error:
        raise UserError("timm to compare with is not installed: pip install timm") from error
    # timm imports torchvision, whose compiled operators a CPU-only torch may lack: declare them.
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from PIL import ImageOps
    from timm.data import create_transform

    torch.set_num_threads(1)
    # Pillow 13 refuses the 0 bits that timm's posterize asks for at level 10.
    posterize = ImageOps.posterize
    ImageOps.posterize = lambda image, bits: posterize(image, max(bits, 1))
    transform = create_transform(
        224,
        is_training=True,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        re_prob=0.25,
        re_mode="pixel",
        mean=MEAN,
        std=STD,
    )
    transform.library = library  # which goes with the object that declared it
    return transform


def _photographs(folder):
    """Parts of scikit-learn's two photographs, each a class of a data set."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = generator(0, 0, 0)
    classes = [folder / "train" / name for name in ("temple", "flower")]
    for each in classes:
        each.mkdir(parents=True)
    images = [Image.fromarray(image) for image in load_sample_images().images]
    for i in range(PHOTOGRAPHS):
        top, left = (int(rng.integers(side)) for side in (427 - 375, 640 - 500))
        part = images[i % 2].crop((left, top, left + 500, top + 375))
        part.save(classes[i % 2] / f"{i:04}.jpg", quality=90)
    return sorted((folder / "train").rglob("*.jpg"))


def _cpu_times(files, timm):
    """Milliseconds for each file, ours and timm's."""
    from PIL import Image

    ours, theirs = [], []
    for index, content in enumerate(files):
        start = time.thread_time()
        training_view(decode(content), (224, 224), generator(0, 0, 2, index))
        between = time.thread_time()
        timm(Image.open(io.BytesIO(content)).convert("RGB"))
        ours.append(1e3 * (between - start))
        theirs.append(1e3 * (time.thread_time() - between))
    return ours[8:], theirs[8:]  # the first ones meet cold caches


def _throughputs(folder, paths, timm):
    """Images per second, the median over rounds of whole epochs."""
    import torch
    from PIL import Image

    class Files(torch.utils.data.Dataset):
        def __len__(self):
            return PASSES * len(paths)

        def __getitem__(self, index):
            return timm(Image.open(paths[index % len(paths)]).convert("RGB")), 0

    loader = torch.utils.data.DataLoader(
        Files(), BATCH, shuffle=True, num_workers=2, persistent_workers=True, drop_last=True
    )
    row = {field.name: field.default for field in dataclasses.fields(RECIPES["digits_none"])}
    names = ("crop", "flip", "rand_augment", "erasing", "mixup", "mix_group", "image_size")
    recipe = dataclasses.replace(
        RECIPES["digits_none"],
        **{name: row[name] for name in names},
        dataset=f"folder:{folder}",
        train_fraction=1.0,
        passes=PASSES,
        batch_size=BATCH,
    )
    stream = data.train(recipe, workers=2)
    rates = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        for name, batches in (("ours", stream), ("theirs", loader)):
            count, start = 0, None
            for images, _ in batches:
                if start is None:  # from the first batch on
                    start = time.perf_counter()
                else:
                    count += len(images)
            rates[name].append(count / (time.perf_counter() - start))
    return statistics.median(rates["ours"]), statistics.median(rates["theirs"])


def exporting():
    """Every published DeiT with random weights in every format: the largest difference from Keras,
    and of the smallest model sizes and latencies."""
    names = [name for name, row in VARIANTS.items() if row.published and name.startswith("deit")]
    print("| largest difference, float32 | SavedModel | LiteRT | ONNX Runtime |")
    print("| --- | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in names:
            reports = [
                export(build(name), folder / f"{name}{end}") for end in ("", ".tflite", ".onnx")
            ]
            cells = [f"{report.difference:.1e}" for report in reports]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
        model = build(names[0])
        options = {".onnx": {}, ".tflite": {}, "_16.tflite": {"quantize": "float16"}}
        options |= {"_8.tflite": {"quantize": "dynamic"}}
        reports = [
            export(model, folder / f"{names[0]}{end}", overwrite=True, **fields)
            for end, fields in options.items()
        ]
    print(f"\n{table(reports)}")
