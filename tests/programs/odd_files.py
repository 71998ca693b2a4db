"""Sends odd files through all that reads images: python -m tests.programs.odd_files

It prints what became of each, by reader, and each process' peak memory.
"""

import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
from PIL import ExifTags, Image

ROOT = pathlib.Path(__file__).absolute().parents[2]
SIZE = (24, 16)
CROP = 0.8
READERS = ("predict", "evaluate", "pixels", "encoded", "LiteRT", "ONNX")
REFUSED = "refused"


def picture(seed, size=(50, 31)):
    """A smooth image of many colors."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def contents():
    """The odd files: from each name to its bytes."""
    files = {}

    def add(name, image, kind=None, **options):
        file = io.BytesIO()
        image.save(file, kind or name.rsplit(".", 1)[1].upper(), **options)
        files[name] = file.getvalue()

    for kind in ("jpeg", "png", "gif", "webp", "bmp", "tiff", "ppm", "tga", "avif", "ico"):
        add(f"format.{kind}", picture(len(files)))
    add("format.jp2", picture(len(files)), "JPEG2000")
    add("format.jfif", picture(len(files)), "JPEG")
    add("progressive.jpeg", picture(len(files)), progressive=True)

    for mode in ("1", "L", "LA", "P", "RGBA"):
        add(f"mode {mode}.png", picture(len(files)).convert(mode))
    for mode in ("1", "PA", "RGBA", "CMYK", "YCbCr", "F", "I"):
        add(
            f"mode {mode}.tiff", picture(len(files)).convert(mode.replace("PA", "LA")).convert(mode)
        )
    for mode in ("L", "CMYK", "YCbCr"):
        add(f"mode {mode}.jpeg", picture(len(files)).convert(mode))
    grays = np.arange(0, 65536, 32, np.uint16).reshape(64, 32)
    for kind in ("png", "tiff"):
        add(f"16 bits.{kind}", Image.fromarray(grays))
    add("transparent.gif", picture(len(files)).quantize(8), transparency=0)
    add("animated.gif", picture(1), save_all=True, append_images=[picture(2), picture(3)])

    for width, height in ((1, 1), (1, 5000), (5000, 1), (30_000, 2), (2, 30_000)):
        add(f"{width}x{height}.png", picture(len(files), (width, height)))
        add(f"{width}x{height}.jpeg", picture(len(files), (width, height)))

    for orientation in range(1, 9):
        tags = Image.Exif()
        tags[ExifTags.Base.Orientation] = orientation
        add(f"turned {orientation}.jpeg", picture(99), exif=tags)
    for kind in ("png", "webp"):
        add(f"turned 8.{kind}", picture(99), exif=tags)

    add("ćma 蝶.png", picture(len(files)))
    add("UPPER CASE.JPEG", picture(len(files)))
    add(os.fsdecode(b"caf\xe9.png"), picture(len(files)))

    for kind in ("jpeg", "png", "gif", "webp", "jp2"):
        whole = files[f"format.{kind}"]
        files[f"truncated.{kind}"] = whole[: len(whole) * 2 // 3]
    files["empty.png"] = b""
    files["text.jpeg"] = b"no photograph\n"
    files["program.png"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    add("bomb 1.png", Image.new("1", (10_000, 9_000)))
    add("bomb 2.png", Image.new("1", (20_000, 20_000)))
    return files


def make(folder):
    """Writes the files into a folder of two classes, with links, loops and what is no image.

    Returns:
        The strs of the paths that readers are to find.
    """
    paths = []
    for number, (name, data) in enumerate(contents().items()):
        path = folder / "images" / "ab"[number % 2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        paths.append(path)

    first, second = folder / "images" / "a", folder / "elsewhere"
    second.mkdir()
    picture(7).save(second / "linked.png")
    for link, target in (
        ("link.jpeg", first / "format.jpeg"),
        ("linked", second),
        ("again", second),
        ("loop", folder),
        ("broken.png", folder / "nothing"),
    ):
        (first / link).symlink_to(target)
    (first / ".hidden.png").write_bytes(b"hidden")
    (first / "notes.txt").write_text("no image")
    return sorted(map(str, [*paths, first / "link.jpeg", first / "again" / "linked.png"]))


def write_models(folder):
    """The model that all use, and its exports."""
    import keras

    import keras_deit as kd

    keras.utils.set_random_seed(3)
    preprocessing = kd.configs.preprocessing.Preprocessing(upright=True)
    shape = {"patch_size": 8, "width": 24, "depth": 1, "heads": 3, "num_classes": 2}
    model = kd.DeiT(SIZE, **shape, class_names=("a", "b"), preprocessing=preprocessing)
    for variable in model.trainable_variables:
        variable.assign(variable + keras.random.normal(variable.shape, stddev=0.2))
    model.save(folder / "model.keras")
    for name in ("model.tflite", "model.onnx", "model"):
        kd.export(model, folder / name, crop=CROP)


def read_here(folder):
    """What the package makes of the files.

    Returns:
        A dict: "results" from reader and path to probabilities, or None for a file that is refused;
        the scores of ``evaluate``; the classes and the warnings of a short fine-tuning.
    """
    import keras

    import keras_deit as kd
    from keras_deit.data.image_files import image_paths
    from keras_deit.evaluation.inference import predictor
    from keras_deit.evaluation.prediction import predict
    from transfer import finetune

    model = keras.saving.load_model(folder / "model.keras")
    results = {reader: {} for reader in ("predict", "evaluate")}
    for path, image, answer in predict(model, image_paths([folder / "images"]), crop=CROP):
        results["predict"][str(path)] = None if image is None else answer.tolist()

    dataset = f"folder:{folder / 'images'}"
    batches = kd.data.images(
        dataset, "all", size=SIZE, crop=CROP, max_damaged=99, preprocessing=model.preprocessing
    )
    scores = {name: str(score) for name, score in kd.evaluate(model, batches).items()}
    views = np.concatenate([images for images, _ in batches.as_numpy_iterator()])
    logits = np.mean(predictor(model)(views), axis=0)
    for index, (path, _) in enumerate(kd.data.datasets.load(dataset, "all").source.files):
        readable = index not in batches.info.unreadable
        results["evaluate"][str(path)] = softmax(logits[index]) if readable else None

    short = ["image_size=24", "epochs=1", "passes=1", "warmup_epochs=0", "run_eagerly=true"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tuned = finetune(model, dataset, folder / "run", short, quiet=True)
    return {
        "results": results,
        "scores": scores,
        "classes": tuned.class_names,
        "warnings": [str(warning.message) for warning in caught],
    }


def read_exported(folder):
    """As ``read_here``, what the exports make of them."""
    import tensorflow as tf

    from keras_deit.data.decode import decode
    from keras_deit.data.image_files import image_paths
    from keras_deit.exports import litert, onnx_file
    from keras_deit.utils.errors import Unreadable
    from scripts.on_device import preprocess

    saved = tf.saved_model.load(str(folder / "model"))
    metadata = json.loads(saved.metadata().numpy())
    on_device = {
        "LiteRT": litert.load_function(folder / "model.tflite"),
        "ONNX": onnx_file.load_function(folder / "model.onnx"),
    }

    def pixels(path):
        image = decode(path.read_bytes(), upright=True)
        return saved.signatures["pixels"](pixels=tf.constant(image[None]))["logits"][0]

    def encoded(path):
        file = tf.constant([path.read_bytes()])
        return saved.signatures["encoded"](encoded=file)["logits"][0]

    def device(reader):
        return lambda path: on_device[reader](preprocess(path, metadata))[0]

    readers = {"pixels": pixels, "encoded": encoded}
    readers |= {reader: device(reader) for reader in on_device}
    results = {reader: {} for reader in readers}
    for path in image_paths([folder / "images"]):
        for reader, read in readers.items():
            try:
                results[reader][str(path)] = softmax(np.array(read(path)))
            except (Unreadable, ValueError, tf.errors.InvalidArgumentError):
                results[reader][str(path)] = None
    return {"results": results}


def softmax(logits):
    exponentials = np.exp(logits - logits.max())
    return (exponentials / exponentials.sum()).tolist()


def peak_memory():
    """Bytes of this process' largest resident memory."""
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def in_process(function, folder):
    """What a function of this module returns in a new process, and that process' peak memory."""
    command = [sys.executable, "-m", "tests.programs.odd_files", function.__name__, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return json.loads((folder / f"{function.__name__}.json").read_text())


def run(folder):
    """Sends the files through all readers.

    Returns:
        The paths; a dict from reader and path to probabilities, or None; the answers of the two
        processes.
    """
    paths = make(folder)
    in_process(write_models, folder)
    answers = [in_process(function, folder) for function in (read_here, read_exported)]
    return paths, answers[0].pop("results") | answers[1].pop("results"), answers


def table(folder, paths, results):
    """A line for each file: what each reader made of it."""
    lines = [f"{'':<30}" + "".join(f"{reader:>10}" for reader in READERS)]
    for path in paths:
        cells = [results[reader].get(path, ["missing"]) for reader in READERS]
        texts = [REFUSED if cell is None else f"{cell[0]:.4}" for cell in cells]
        name = str(pathlib.Path(path).relative_to(folder / "images"))
        name = name.encode(errors="backslashreplace").decode()
        lines.append(f"{name:<30}" + "".join(f"{text:>10}" for text in texts))
    return "\n".join(lines)


def main():
    if len(sys.argv) > 1:
        warnings.simplefilter("ignore")
        name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
        answer = globals()[name](folder) or {}
        answer["peak_memory"] = peak_memory()
        (folder / f"{name}.json").write_text(json.dumps(answer))
        return

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        paths, results, answers = run(folder)
        print(table(folder, paths, results))
        for answer in answers:
            print(f"peak memory {answer['peak_memory'] / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
