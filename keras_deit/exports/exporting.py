"""Export: a model's file, loaded again in its runtime and compared with the model."""

import functools
import pathlib
from dataclasses import dataclass, replace
from types import ModuleType

import keras
import numpy as np

from keras_deit.exports.calibration import random_images
from keras_deit.exports.formats import check_options, format_of, load
from keras_deit.exports.report import Report
from keras_deit.exports.settings import INT8_LEVELS, QUANTIZATIONS, ExportSettings
from keras_deit.exports.timing import median_milliseconds
from keras_deit.models.base import ImageClassifier
from keras_deit.models.factory import family_names, float32_copy
from keras_deit.models.policies import is_float32
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import atomic_write, atomic_write_folder
from keras_deit.utils.names import printable
from keras_deit.utils.paths import expand_home
from keras_deit.utils.validation import gives_fused_logits, height_and_width

# Largest ``Report.difference`` of files that only round. Those with int8 are held to agreement.
TOLERANCES = {"none": 1e-4, "float16": 2e-2}
RANDOM_IMAGES = 4
ANY_SIZE = (224, 224)  # of a model that takes images of any size, unless one is given


@dataclass(frozen=True, eq=False)
class _Plan:
    """One export: what is written, and what it is compared with."""

    path: pathlib.Path
    file_format: ModuleType
    settings: ExportSettings
    model: ImageClassifier  # in float32, to be written
    reference: ImageClassifier  # in float32, to compare with
    images: np.ndarray
    agreement: float | None  # the minimum, None if the images are random

    @functools.cached_property
    def keras_function(self):
        """The reference as a function from images to fused logits, compiled by Keras' backend."""
        import tensorflow as tf

        compiled = tf.function(
            lambda images: self.reference(images, training=False),
            reduce_retracing=True,
            autograph=False,
        )
        return lambda images: compiled(tf.constant(images)).numpy()

    @functools.cached_property
    def expected(self):
        """The reference's logits for the images, (images, num_classes)."""
        return np.concatenate([self.keras_function(image[None]) for image in self.images])


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
    """Exports a model for another runtime, in float32 whatever it was trained in.

    LoRA is merged. The file is written under a temporary name, loaded in its runtime, compared with
    the model in float32, and only then renamed to ``path``.

    Args:
        model: an ``ImageClassifier``, on the TensorFlow backend, not quantized.
        path: the suffix chooses the format: ``.tflite`` for LiteRT (``exports/litert.py``),
            ``.onnx`` (``exports/onnx_file.py``), or, without a suffix, the folder of a SavedModel
            (``exports/saved_model.py``).
        quantize: str. For LiteRT: "none", "float16", "dynamic" or "int8", see ``ExportSettings``.
            Default "none".
        calibration: float32 (count, height, width, 3). Normalized images for "int8", a hundred or
            so; else None.
        images: float32 (count, height, width, 3). Normalized images to compare on. Default: those
            of the calibration, or else four random ones, on which the top-1 of quantized weights is
            not judged.
        agreement: float in [0, 1]. Minimum fraction of ``images`` with the same top-1 class that a
            "dynamic" or "int8" file must reach. "int8" raises its precision until it does, see
            ``settings.INT8_LEVELS``. Other files are held to ``TOLERANCES``. Default 0.99.
        image_size: int or (height, width), in pixels. For a ``RegNetY``, which takes images of any
            size. Default 224.
        crop: float in [0.05, 1]. Center-crop ratio. Default 0.875.
        batch: int, or "any". Images in a batch. Default "any"; a LiteRT file then begins with one.
        attention: bool. Whether the attention of all blocks is an output too. Default False.
        overwrite: bool. Whether to replace an existing file. Default False.

    Returns:
        A ``Report``.

    Raises:
        UserError: an argument is wrong, or the file does not agree with the model, and by how much.
            ``path`` is then as it was before.

    Example:
        >>> import keras_deit as kd
        >>> import pathlib, tempfile
        >>> model = kd.DeiT(16, patch_size=8, width=12, depth=1, heads=3, num_classes=5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = kd.export(model, pathlib.Path(folder) / "model.onnx")
        >>> report.runtime, report.difference < 1e-4
        ('ONNX Runtime', True)
    """
    path = pathlib.Path(expand_home(path))
    file_format = format_of(path)

    # 1. Invalid arguments are rejected before the first slow step.
    _check_path(path, file_format, overwrite)
    _check_quantize(quantize)
    _check_batch(batch)
    _check_model(model, attention)

    settings = ExportSettings(
        image_size=model.image_size or height_and_width(image_size or ANY_SIZE),
        crop=crop,
        batch=None if batch == "any" else batch,
        attention=attention,
        quantize=quantize,
        calibration=calibration,
    )
    check_options(file_format, path, settings)
    _check_calibration(quantize, calibration)
    _check_images(calibration, settings.image_size)
    _check_images(images, settings.image_size)

    # 2. The file is compared on the images that are closest to those it is for.
    if images is None:
        images = calibration
    if images is None:
        # Random images lie near class boundaries, where int8 weights may change the top-1.
        images = random_images(settings.image_size, RANDOM_IMAGES)
        agreement = None
    images = np.asarray(images, np.float32)

    copy = float32_copy(model)
    reference = _reference(model, copy)
    plan = _Plan(path, file_format, settings, copy, reference, images, agreement)

    # 3. The file gets its name only if nothing is raised.
    write_atomically = atomic_write if file_format.SUFFIX else atomic_write_folder
    return write_atomically(path, functools.partial(_write_and_compare, plan))


def _check_path(path, file_format, overwrite):
    if printable(path) != str(path):
        raise UserError(
            f"{printable(path)} is not valid UTF-8, and the files' runtimes open no such path:"
            " expected another name"
        )
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists: expected another name, or overwrite")
    if path.is_dir() and (file_format.SUFFIX or not (path / "saved_model.pb").exists()):
        raise UserError(f"{path} is a folder, and no SavedModel: expected another name")
    if path.is_file() and not file_format.SUFFIX:
        raise UserError(f"{path} is a file: expected the name of a folder")


def _check_quantize(quantize):
    if quantize not in QUANTIZATIONS:
        raise UserError(f"quantize {quantize!r}: expected {', '.join(QUANTIZATIONS)}")


def _check_calibration(quantize, calibration):
    if (quantize == "int8") != (calibration is not None):
        raise UserError(
            f"quantize={quantize}: expected calibration images with int8, and only with int8"
        )


def _check_batch(batch):
    if batch != "any" and not (isinstance(batch, int) and batch > 0):
        raise UserError(f"batch {batch!r}: expected a number above 0, or 'any'")


def _check_model(model, attention):
    if not isinstance(model, ImageClassifier):
        raise UserError(f"{type(model).__name__}: expected a {family_names()} to export")
    if not gives_fused_logits(model):
        raise UserError(
            f"{type(model).__name__} overrides call, and kd.export writes what logits returns:"
            " override logits instead, or use model.export"
        )
    if attention and not model.has_attention:
        raise UserError(f"a {type(model).__name__} has no attention to export")
    if keras.backend.backend() != "tensorflow":
        raise UserError("models are exported on TensorFlow: set KERAS_BACKEND=tensorflow")


def _reference(model, copy):
    """The float32 model to compare a file of ``copy`` with.

    A float32 model is its own, so that an error in the copy is seen too.
    """
    if is_float32(model):
        return model
    if not is_float32(copy):
        raise UserError(
            f"a {type(model).__name__} of dtype float32 has layers of another dtype, and cannot be"
            " compared: give all its layers its dtype_policy"
        )
    return copy


def _check_images(images, image_size):
    height, width = image_size
    if images is not None and np.shape(images)[1:] != (height, width, 3):
        raise UserError(f"images of {np.shape(images)}: expected (count, {height}, {width}, 3)")


def _write_and_compare(plan, partial):
    """Writes the plan's file as ``partial``.

    Returns:
        The ``Report``.

    Raises:
        UserError: the file does not agree with the model.
    """
    # The least precise int8 file that agrees is the smallest and fastest.
    levels = INT8_LEVELS if plan.settings.quantize == "int8" else ("",)

    for higher_precision in levels:
        settings = replace(plan.settings, higher_precision=higher_precision)
        plan.file_format.write(plan.model, partial, settings)

        run = load(plan.file_format, partial)
        difference, agreement = _compare(plan, run)
        if plan.agreement is None or agreement >= plan.agreement:
            break

    # One image, or a whole batch if the file takes nothing else.
    images = _whole_batches(plan.images, settings.batch)[: settings.batch or 1]
    milliseconds, keras_milliseconds = median_milliseconds(
        lambda: run(images), lambda: plan.keras_function(images)
    )

    report = Report(
        path=plan.path,
        runtime=plan.file_format.NAME,
        bytes=_size(partial),
        difference=difference,
        agreement=agreement,
        images=len(plan.images),
        higher_precision=higher_precision,
        milliseconds=milliseconds,
        keras_milliseconds=keras_milliseconds,
    )
    _judge(report, settings.quantize, plan.agreement)
    return report


def _compare(plan, run):
    """The ``difference`` and the ``agreement`` of a ``Report``, for the file's function ``run``."""
    # One image at a time, as on a device, unless the file takes only whole batches.
    step = plan.settings.batch or 1
    images = _whole_batches(plan.images, step)
    logits = [run(images[start : start + step]) for start in range(0, len(images), step)]
    logits = np.concatenate(logits)[: len(plan.images)]

    error = np.abs(logits - plan.expected).max()
    same_top1 = logits.argmax(axis=-1) == plan.expected.argmax(axis=-1)
    return float(error / plan.expected.std()), float(same_top1.mean())


def _whole_batches(images, batch):
    """The images, with black ones up to a multiple of ``batch``."""
    missing = -len(images) % (batch or 1)
    black = np.zeros((missing, *images.shape[1:]), images.dtype)
    return np.concatenate([images, black])


def _size(path):
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _judge(report, quantize, minimum):
    """Raises UserError if the file does not agree with its model.

    Args:
        report: its ``Report``.
        quantize: its quantization.
        minimum: the least top-1 agreement; None if the images are random.
    """
    if not np.isfinite(report.difference):
        raise UserError(f"{report.path}: its logits are not finite; nothing was written")

    if quantize in TOLERANCES:
        if report.difference > TOLERANCES[quantize]:
            raise UserError(
                f"{report.path}: its logits differ by {report.difference:.1e} of their standard"
                f" deviation, and {TOLERANCES[quantize]:g} is allowed; nothing was written"
            )
    elif minimum is not None and report.agreement < minimum:
        raise UserError(
            f"{report.path}: {report.agreement:.1%} of {report.images} images have the same top-1,"
            f" and {minimum:.1%} is expected: try more calibration images or quantize=dynamic;"
            " nothing was written"
        )
