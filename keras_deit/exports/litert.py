"""LiteRT's ``.tflite``: in float32, float16, with int8 weights, or with int8 throughout."""

import json
import os
import warnings
import zipfile

import numpy as np

from keras_deit.exports.graphs import named_outputs, variable_values
from keras_deit.exports.metadata import file_metadata
from keras_deit.exports.settings import DYNAMIC_PRODUCTS, INT8_PRODUCTS
from keras_deit.utils.errors import UserError, reason

NAME = "LiteRT"
SUFFIX = ".tflite"
OPTIONS = ("batch", "attention", "quantize")

# All operations of a DeiT but FULLY_CONNECTED, the matrix products of its dense layers.
SENSITIVE_TO_INT8 = (
    "ADD",
    "BATCH_MATMUL",
    "CONCATENATION",
    "CONV_2D",
    "GELU",
    "MEAN",
    "MUL",
    "NEG",
    "RESHAPE",
    "RSQRT",
    "SOFTMAX",
    "SQUARED_DIFFERENCE",
    "STRIDED_SLICE",
    "TRANSPOSE",
    "UNPACK",
)
FOREIGN_PREFIXES = ("Flex", "CUSTOM")  # of operations that are TensorFlow's, or custom


def write(model, path, settings):
    """Writes the file, with only LiteRT's own operations.

    Input and outputs are float32: normalized images (batch, height, width, 3), ``logits`` and, if
    the settings ask for it, ``attention``. A file for any batch size begins with one image;
    ``resize_tensor_input`` of the runtime changes that.

    ``labels.txt``, a class name per line, and ``metadata.json`` are in a zip archive at the end of
    the file, as is usual for LiteRT: ``unzip model.tflite`` finds them.

    Args:
        model: a float32 ``ImageClassifier``.
        path: ``pathlib.Path`` of the file.
        settings: ``ExportSettings``.

    Raises:
        UserError: the converter fails, as it does if it needs operations of TensorFlow.
    """
    converter = _converter(model, settings)
    try:
        content = _convert(converter, settings)
    except Exception as error:  # the converter raises errors of many types
        raise UserError(f"LiteRT's converter failed: {reason(error)[:200]}") from error

    path.write_bytes(content)
    _append_metadata(path, model, settings)


def _converter(model, settings):
    """TensorFlow's converter of the model, with its weights as constants."""
    import tensorflow as tf

    values = variable_values(model)

    def run(images):
        constants = [tf.constant(value) for value in values]
        outputs = named_outputs(model, constants, images, settings.attention)
        return {name: outputs[name] for name in ("logits", "attention") if name in outputs}

    module = tf.Module()
    spec = tf.TensorSpec((settings.batch, *settings.image_size, 3), tf.float32, "images")
    module.run = tf.function(run, input_signature=[spec], autograph=False)
    function = module.run.get_concrete_function()

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _convert(converter, settings):
    """The file's bytes, quantized as the settings say."""
    import tensorflow as tf

    if settings.quantize == "none":
        return converter.convert()

    # By itself, this stores int8 weights and quantizes activations dynamically.
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if settings.quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if settings.quantize != "int8" or settings.higher_precision == DYNAMIC_PRODUCTS:
        return converter.convert()

    def calibration_batches():
        for image in settings.calibration:
            yield [np.stack([image] * (settings.batch or 1))]

    # With it, activations are quantized by the ranges that they have on these images.
    converter.representative_dataset = calibration_batches
    if settings.higher_precision == INT8_PRODUCTS:
        return _convert_only_products(converter, calibration_batches)
    return converter.convert()


def _convert_only_products(converter, calibration_batches):
    """The file's bytes, with all operations in float32 but the layers' matrix products."""
    import tensorflow as tf

    # Experimental in TensorFlow 2.20 and 2.21: the one way to choose operations that stay float32.
    # If it is gone, only the level INT8_PRODUCTS is: the others do without it.
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(SENSITIVE_TO_INT8))
    with warnings.catch_warnings():
        # The debugger uses tf.lite.Interpreter, which warns that it has moved to ai_edge_litert.
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter")
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=calibration_batches, debug_options=options
        )
    return debugger.get_nondebug_quantized_model()


def _append_metadata(path, model, settings):
    metadata = file_metadata(model, settings) | {"quantization": settings.quantize}
    if settings.quantize == "int8":
        metadata["higher_precision"] = settings.higher_precision

    # A line per class, even if a name has several.
    labels = [" ".join(label.splitlines()) for label in model.class_labels]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "\n".join(labels) + "\n")
        archive.writestr("metadata.json", json.dumps(metadata, indent=2, ensure_ascii=False))


def load_function(path):
    """The file as a function from images to logits, in LiteRT on all cores.

    Raises:
        UserError: the file holds operations that are not LiteRT's own.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    names = {operation["op_name"] for operation in operations(interpreter)}
    foreign = sorted(name for name in names if name.startswith(FOREIGN_PREFIXES))
    if foreign:
        raise UserError(f"{path} holds operations that are not LiteRT's: {', '.join(foreign)}")

    interpreter.allocate_tensors()
    (image_input,) = interpreter.get_input_details()
    # Of the outputs logits have rank 2, attention has rank 5.
    logits = next(
        output for output in interpreter.get_output_details() if len(output["shape"]) == 2
    )

    def run(images):
        if tuple(interpreter.get_input_details()[0]["shape"]) != images.shape:
            interpreter.resize_tensor_input(image_input["index"], images.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(image_input["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(logits["index"])

    return run


def operations(interpreter):
    """The operations of an interpreter's file: dicts with "op_name" and "inputs", the indices of
    its input tensors."""
    # Private in ai-edge-litert 2: it has no public way to list them.
    return interpreter._get_ops_details()
