"""From a model to a file that was loaded again by its own runtime, and agrees."""

import pathlib
from dataclasses import dataclass

import numpy as np

from keras_deit.exports import graphs, litert, onnx_file, runtimes
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import atomic_write, atomic_write_folder
from keras_deit.utils.validation import height_and_width

TOLERANCES = {"none": 1e-4, "float16": 2e-2}  # of logits, over their standard deviation
SAMPLES = 4  # random images to compare on, where none are given
FORMATS = {".tflite": "LiteRT", ".onnx": "ONNX Runtime", "": "SavedModel"}


@dataclass(frozen=True)
class Report:
    """What an export came to.

    Attributes:
        path: what was written.
        runtime: what it was loaded by.
        bytes: its size.
        difference: the largest of a logit from the model's, over the standard deviation of those.
        agreement: the share of images with the same top-1.
        images: how many were compared.
        kept: what of an int8 file is not calibrated eight bits, else "".
        milliseconds, keras: for one image, or a fixed batch, in the runtime and in Keras' compiled
            function: medians of calls in turn, on all cores.
    """

    path: pathlib.Path
    runtime: str
    bytes: int
    difference: float
    agreement: float
    images: int
    kept: str
    milliseconds: float
    keras: float


def export(
    model,
    path,
    *,
    quantize="none",
    calibration=None,
    images=None,
    agreement=0.99,
    image_size=None,
    crop=0.875,
    batch="any",
    attention=False,
    overwrite=False,
):
    """Writes a model for another runtime, in float32 whatever it was trained in, loads the file
    there, compares it with the model, and only then gives it its name.

    Args:
        model: a ``DeiT`` or ``RegNetY``, on TensorFlow.
        path: ``.tflite`` for LiteRT (``exports/litert.py``), ``.onnx`` (``exports/onnx_file.py``),
            or, without a suffix, the folder of a SavedModel (``exports/saved_model.py``).
        quantize: of LiteRT, "none", "float16", "dynamic" or "int8".
        calibration: for "int8", normalised images (count, height, width, 3), a hundred or so.
        images: likewise, to compare on; None is those of the calibration, or random ones, on which
            quantized weights are not held to ``agreement``.
        agreement: the least share of ``images`` with the same top-1 that a quantized file is to
            have: for its sake "int8" keeps what is sensitive higher (``litert.LEVELS``). The others
            are held to ``TOLERANCES``.
        image_size: of a ``RegNetY``: an int or (height, width), in pixels.
        crop: the share of an image's side that is seen.
        batch: how many images at a time, or "any"; LiteRT, "any" or not, begins with one.
        attention: whether the attention of all blocks is an output as well.
        overwrite: whether to replace what is there.

    Returns:
        A ``Report``.

    Raises:
        UserError: what is wrong with the arguments, or that the file does not agree, and by how
            much; there is no file under that name then, or what was there before.
    """
    path = pathlib.Path(path)
    _check(path, quantize, calibration, batch, overwrite)
    model = graphs.plain(model)
    if attention and not hasattr(model, "attention_maps"):
        raise UserError(f"a {type(model).__name__} has no attention to give")
    sides = graphs.size(model, image_size and height_and_width(image_size))
    count = None if batch == "any" else batch
    options = {"sides": sides, "crop": crop, "batch": count, "attention": attention}
    held = not (images is None and quantize == "dynamic")
    if images is None:
        images = graphs.sample(sides, SAMPLES) if calibration is None else calibration
    images = np.asarray(images, np.float32)
    for given in (images, calibration):
        if given is not None and tuple(np.shape(given)[1:]) != (*sides, 3):
            raise UserError(
                f"images of {np.shape(given)}: expected (count, {sides[0]}, {sides[1]}, 3)"
            )
    reports = []

    def written(partial):
        for kept in litert.LEVELS if quantize == "int8" else [""]:
            if path.suffix == ".tflite":
                extra = {"quantize": quantize, "calibration": calibration, "kept": kept}
                litert.write(model, partial, **options, **extra)
            elif path.suffix == ".onnx":
                onnx_file.write(model, partial, **options)
            else:
                from keras_deit.exports import saved_model

                saved_model.write(model, partial, **options)
            report = _compared(model, partial, path, images, count, kept)
            if report.agreement >= agreement:
                break
        _judge(report, quantize, agreement, held)
        reports.append(report)

    (atomic_write if path.suffix else atomic_write_folder)(path, written)
    return reports[0]


def _check(path, quantize, calibration, batch, overwrite):
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: expected .tflite, .onnx, or no suffix for a SavedModel's folder")
    if quantize not in litert.QUANTIZATIONS:
        raise UserError(f"quantize {quantize!r}: expected {', '.join(litert.QUANTIZATIONS)}")
    if quantize != "none" and path.suffix != ".tflite":
        raise UserError(f"{path} with quantize={quantize}: expected a .tflite file")
    if (quantize == "int8") != (calibration is not None):
        raise UserError(
            f"quantize={quantize}: expected calibration images with int8, and only then"
        )
    if batch != "any" and not (isinstance(batch, int) and batch > 0):
        raise UserError(f"batch {batch!r}: expected a number above 0, or 'any'")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists: expected another name, or overwrite")
    if path.is_dir() and (path.suffix or not (path / "saved_model.pb").exists()):
        raise UserError(f"{path} is a folder, and of no SavedModel: expected another name")
    if not path.suffix and path.is_file():
        raise UserError(f"{path} is a file: expected the name of a folder")


def _compared(model, partial, path, images, batch, kept):
    """The report of what is written in ``partial`` and will be ``path``."""
    run = runtimes.opened(partial, path.suffix)
    reference = _compiled(model)
    expected = np.concatenate([reference(image[None]) for image in images])
    step, count = batch or 1, len(images)
    black = np.zeros((-count % step, *images.shape[1:]), images.dtype)
    images = np.concatenate([images, black])  # whole batches
    found = np.concatenate([run(images[i : i + step]) for i in range(0, len(images), step)])
    found = found[:count]
    difference = float(np.abs(found - expected).max() / expected.std())
    same = float(np.mean(found.argmax(axis=-1) == expected.argmax(axis=-1)))
    files = [partial] if partial.is_file() else [p for p in partial.rglob("*") if p.is_file()]
    size = sum(file.stat().st_size for file in files)
    times = runtimes.in_turn(lambda: run(images[:step]), lambda: reference(images[:step]))
    runtime = FORMATS[path.suffix]
    return Report(path, runtime, size, difference, same, count, kept, *times)


def _compiled(model):
    """Keras' own function of images to fused logits, compiled."""
    import tensorflow as tf

    compiled = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    return lambda images: compiled(tf.constant(images)).numpy()


def _judge(report, quantize, agreement, held):
    if not np.isfinite(report.difference):
        raise UserError(f"{report.path}: its logits are not finite; nothing was written")
    if quantize in TOLERANCES and report.difference > TOLERANCES[quantize]:
        raise UserError(
            f"{report.path}: its logits differ by {report.difference:.1e} of their spread, and"
            f" {TOLERANCES[quantize]:g} is allowed; nothing was written"
        )
    if held and quantize not in TOLERANCES and report.agreement < agreement:
        raise UserError(
            f"{report.path}: {report.agreement:.1%} of {report.images} images have the same top-1,"
            f" and {agreement:.1%} is expected: try more calibration images or quantize=dynamic;"
            " nothing was written"
        )


def table(reports):
    """The reports as Markdown."""
    head = ["file", "runtime", "MB", "largest difference", "same top-1", "ms", "Keras, ms", "ratio"]
    lines = [head, ["---", "---"] + ["---:"] * 6]
    for of in reports:
        lines.append([of.path.name, of.runtime, f"{of.bytes / 1e6:.1f}", f"{of.difference:.1e}"])
        lines[-1] += [f"{of.agreement:.1%} of {of.images}", f"{of.milliseconds:.1f}"]
        lines[-1] += [f"{of.keras:.1f}", f"{of.milliseconds / of.keras:.2f}"]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
