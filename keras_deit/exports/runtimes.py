"""The written files in their own runtimes: a function of normalised images to logits each."""

import os
import statistics
import time

from keras_deit.utils.errors import UserError, reason

ROUNDS, SECONDS = 15, 5.0  # of timing, at most


def opened(path, suffix):
    """A function from float32 images (count, height, width, 3) to the file's logits, float32
    (count, classes).

    Raises:
        UserError: the runtime does not load it, or it holds operations that are not its own.
    """
    try:
        return {".tflite": litert, ".onnx": onnx, "": saved_model}[suffix](path)
    except UserError:
        raise
    except Exception as error:  # a runtime's, of any type
        raise UserError(f"{path}: its runtime does not load it: {reason(error)[:200]}") from error


def saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]

    def run(images):
        _ = loaded  # which holds the signature's variables
        return serve(images=tf.constant(images))["logits"].numpy()

    return run


def litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    own = {detail["op_name"] for detail in interpreter._get_ops_details()}
    foreign = sorted(name for name in own if name.startswith(("Flex", "CUSTOM")))
    if foreign:
        raise UserError(f"{path} holds operations that are not LiteRT's: {', '.join(foreign)}")
    interpreter.allocate_tensors()
    (into,) = interpreter.get_input_details()
    out = next(detail for detail in interpreter.get_output_details() if len(detail["shape"]) == 2)

    def run(images):
        if tuple(interpreter.get_input_details()[0]["shape"]) != images.shape:
            interpreter.resize_tensor_input(into["index"], images.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(into["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(out["index"])

    return run


def onnx(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images})[0]


def in_turn(*functions):
    """The median milliseconds of a call of each, called in turn after one to warm up."""
    for function in functions:
        function()
    taken, start = [[] for _ in functions], time.perf_counter()
    for _ in range(ROUNDS):
        for function, times in zip(functions, taken, strict=True):
            begin = time.perf_counter()
            function()
            times.append(1000 * (time.perf_counter() - begin))
        if time.perf_counter() - start > SECONDS:
            break
    return tuple(map(statistics.median, taken))
