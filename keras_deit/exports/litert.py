"""LiteRT's ``.tflite``: in float32, float16, with int8 weights, or with int8 throughout."""

import contextlib
import io
import json
import zipfile

from keras_deit.errors import UserError
from keras_deit.exports import graphs

QUANTIZATIONS = ("none", "float16", "dynamic", "int8")


def write(model, path, sides, crop, batch=1, attention=False, quantize="none", calibration=None):
    """Writes the file, of LiteRT's own operations alone.

    Input and outputs are float32: normalised images (batch, height, width, 3), ``logits`` and, if
    asked for, ``attention``. ``labels.txt``, a class name per line, and ``metadata.json`` are in a
    zip archive at its end, as in other ``.tflite`` files: ``unzip model.tflite`` finds them.

    Args:
        model, sides, crop, attention: see ``saved_model.write``.
        path: of the file.
        batch: how many images at a time; None is any number, which the runtime is told by
            ``resize_tensor_input``.
        quantize: "none"; "float16", of the weights; "dynamic", int8 weights, per channel, and
            activations as they come; or "int8", both from calibration.
        calibration: for "int8", float32 (images, height, width, 3), normalised.

    Raises:
        UserError: the converter cannot do without operations of TensorFlow.
    """
    import tensorflow as tf

    values = graphs.values(model)

    def run(images):
        found = graphs.outputs(model, [tf.constant(value) for value in values], images, attention)
        return {name: found[name] for name in ("logits", "attention") if name in found}

    spec = tf.TensorSpec((batch, *sides, 3), tf.float32, "images")
    module = tf.Module()
    module.run = tf.function(run, input_signature=[spec])
    concrete = module.run.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            content = converter.convert()
    except Exception as error:  # the converter's, of many types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: LiteRT's converter failed: {reason[:200]}") from error
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "\n".join(graphs.names(model)) + "\n")
        described = graphs.metadata(model, crop, sides) | {"quantization": quantize}
        archive.writestr("metadata.json", json.dumps(described, indent=2, ensure_ascii=False))
