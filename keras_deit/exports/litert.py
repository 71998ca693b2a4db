"""LiteRT's ``.tflite``: in float32, float16, with int8 weights, or with int8 throughout."""

import json
import warnings
import zipfile

import numpy as np

from keras_deit.exports import graphs
from keras_deit.utils.errors import UserError, reason

QUANTIZATIONS = ("none", "float16", "dynamic", "int8")
# What "int8" keeps out of calibrated eight bits, from nothing to more. All but the matrix products
# of the layers is sensitive to them; and so, in a small model, are the inputs of those.
OPERATIONS = ("ADD", "BATCH_MATMUL", "CONCATENATION", "CONV_2D", "GELU", "MEAN", "MUL", "NEG")
OPERATIONS += ("RESHAPE", "RSQRT", "SOFTMAX", "SQUARED_DIFFERENCE", "STRIDED_SLICE", "TRANSPOSE")
OPERATIONS += ("UNPACK",)
NOTHING, PRODUCTS, RANGES = LEVELS = (
    "nothing",
    "all but the layers' matrix products",
    "all, and the ranges of what these get, which are dynamic",
)


def write(
    model,
    path,
    sides,
    crop,
    batch=None,
    attention=False,
    quantize="none",
    calibration=None,
    kept=NOTHING,
):
    """Writes the file, of LiteRT's own operations alone.

    Input and outputs are float32: normalised images (batch, height, width, 3), ``logits`` and, if
    asked for, ``attention``. ``labels.txt``, a class name per line, and ``metadata.json`` are in a
    zip archive at its end, as in other ``.tflite`` files: ``unzip model.tflite`` finds them.

    Args:
        model, sides, crop, attention: see ``saved_model.write``.
        path: of the file.
        batch: how many images at a time; None is any number, which the runtime is told by
            ``resize_tensor_input``: until then it is one.
        quantize: "none"; "float16", of the weights; "dynamic", int8 weights, per channel, and
            activations as they come; or "int8", both from calibration.
        calibration: for "int8", float32 (images, height, width, 3), normalised.
        kept: what of "int8" is not calibrated eight bits, one of ``LEVELS``.

    Raises:
        UserError: the converter cannot do without operations of TensorFlow.
    """
    converter = _converter(model, sides, batch, attention)
    import tensorflow as tf

    if quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    try:
        calibrated = quantize == "int8" and kept != RANGES
        groups = [np.stack([image] * (batch or 1)) for image in calibration] if calibrated else ()
        content = _calibrated(converter, groups, kept) if calibrated else converter.convert()
    except Exception as error:  # the converter's, of many types
        raise UserError(f"LiteRT's converter failed: {reason(error)[:200]}") from error
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive:
        lines = [" ".join(name.splitlines()) for name in graphs.names(model)]
        archive.writestr("labels.txt", "\n".join(lines) + "\n")
        described = graphs.metadata(model, crop, sides) | {"quantization": quantize}
        described |= {"not calibrated": kept} if quantize == "int8" else {}
        archive.writestr("metadata.json", json.dumps(described, indent=2, ensure_ascii=False))


def _converter(model, sides, batch, attention):
    """TensorFlow's converter of the model, with its weights as constants."""
    import tensorflow as tf

    values = graphs.values(model)

    def run(images):
        found = graphs.outputs(model, [tf.constant(value) for value in values], images, attention)
        return {name: found[name] for name in ("logits", "attention") if name in found}

    module = tf.Module()
    spec = tf.TensorSpec((batch, *sides, 3), tf.float32, "images")
    module.run = tf.function(run, input_signature=[spec])
    concrete = module.run.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _calibrated(converter, batches, kept):
    """The file's bytes in calibrated int8, but for what is kept."""
    import tensorflow as tf

    def examples():
        for batch in batches:
            yield [batch]

    converter.representative_dataset = examples
    if kept == NOTHING:
        return converter.convert()
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(OPERATIONS))
    with warnings.catch_warnings():  # of an interpreter of its own, which has a new home
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter")
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=examples, debug_options=options
        )
    return debugger.get_nondebug_quantized_model()
