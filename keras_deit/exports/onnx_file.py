"""ONNX: the graph of a DeiT, written operation by operation.

The converter that Keras uses, tf2onnx, writes ``Erfc``, which is no operator of ONNX, and splits a
LayerNorm into nine operators. Here a block is as in the paper, in operators that runtimes optimize.
"""

import os

import numpy as np

from keras_deit.exports.metadata import file_metadata
from keras_deit.models.deit import DeiT
from keras_deit.models.deit_layers import EPSILON
from keras_deit.utils.errors import UserError
from keras_deit.weights.names import readers

NAME = "ONNX Runtime"
SUFFIX = ".onnx"
OPTIONS = ("batch", "attention")

OPSET = 20  # the first with Gelu
IR_VERSION = 10  # ONNX Runtime 1.18 or newer reads it


def write(model, path, settings):
    """Writes the file, from normalized images, float32 (batch, height, width, 3), to ``logits``
    and, if the settings ask for it, ``attention``. The metadata are its metadata properties.

    Args:
        model: a float32 ``DeiT``.
        path: of the file.
        settings: ``ExportSettings``.

    Raises:
        UserError: the model is a ``RegNetY``.
    """
    import onnx
    from onnx import helper

    if not isinstance(model, DeiT):
        raise UserError(
            f"a {type(model).__name__} has no ONNX export: expected a DeiT, or another format"
        )

    graph = Graph(model)
    graph.add_model(settings.attention)

    def tensor(name, *shape):
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    batch = "batch" if settings.batch is None else settings.batch
    tokens = model.tokens.pos_embed.shape[1]
    outputs = [tensor("logits", batch, model.num_classes)]
    if settings.attention:
        outputs.append(tensor("attention", batch, model.depth, model.heads, tokens, tokens))

    file = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "DeiT",
            [tensor("images", batch, *settings.image_size, 3)],
            outputs,
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="keras_deit",
    )
    helper.set_model_props(file, file_metadata(model, settings))
    onnx.checker.check_model(file, full_check=True)
    onnx.save(file, path)


def load_function(path):
    """The file as a function from images to logits, in ONNX Runtime on all cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images})[0]


class Graph:
    """A DeiT's graph: ``nodes`` and ``constants`` in the order in which they are added.

    A tensor is its name, a str. Methods that add operations take and return names.
    """

    def __init__(self, model):
        self.model = model
        self.weights = {name: read() for name, read in readers(model).items()}
        self.nodes = []
        self.constants = []

    def constant(self, value, dtype=np.float32):
        """Adds an array."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        array = np.asarray(value, dtype, order="C")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator, *inputs, outputs=1, name=None, **attributes):
        """Adds an operation of names or float32 arrays. Returns its output, or a list of them."""
        from onnx import helper

        inputs = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        names = [name or f"{operator}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def reshape(self, x, *shape):
        """Reshapes; 0 keeps a side as it is, and -1 is what remains."""
        return self.add("Reshape", x, self.constant(shape, np.int64))

    def dense(self, x, name):
        x = self.add("MatMul", x, self.weights[f"{name}.weight"].T)
        return self.add("Add", x, self.weights[f"{name}.bias"])

    def layer_norm(self, x, name):
        scale = self.weights[f"{name}.weight"]
        shift = self.weights[f"{name}.bias"]
        return self.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=EPSILON)

    def add_model(self, attention):
        """Adds everything from "images" to "logits" and, if asked for, "attention"."""
        x = self._tokens()

        attention_maps = []
        for i in range(self.model.depth):
            block = f"blocks.{i}"
            y, weights = self._attention(self.layer_norm(x, f"{block}.norm1"), f"{block}.attn")
            x = self.add("Add", x, y)
            y = self.dense(self.layer_norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")
            y = self.dense(self.add("Gelu", y), f"{block}.mlp.fc2")
            x = self.add("Add", x, y)
            attention_maps.append(weights)

        self._heads(self.layer_norm(x, "norm"))
        if attention:
            axis = self.constant([1], np.int64)
            attention_maps = [self.add("Unsqueeze", weights, axis) for weights in attention_maps]
            self.add("Concat", *attention_maps, axis=1, name="attention")

    def _tokens(self):
        """The tokens before the first block, (batch, tokens, width)."""
        patch_size = [self.model.patch_size] * 2
        kernel = self.weights["patch_embed.proj.weight"]
        bias = self.weights["patch_embed.proj.bias"]

        # ONNX convolves channels first.
        x = self.add("Transpose", "images", perm=[0, 3, 1, 2])
        x = self.add("Conv", x, kernel, bias, kernel_shape=patch_size, strides=patch_size)
        x = self.add("Transpose", self.reshape(x, 0, 0, -1), perm=[0, 2, 1])

        names = ["cls_token", "dist_token"][: 1 + self.model.distilled]
        prefix = np.concatenate([self.weights[name] for name in names], axis=1)
        # The batch size is known only when the file runs.
        batch = self.add("Shape", "images", start=0, end=1)
        shape = self.add("Concat", batch, self.constant(prefix.shape[1:], np.int64), axis=0)
        x = self.add("Concat", self.add("Expand", prefix, shape), x, axis=1)
        return self.add("Add", x, self.weights["pos_embed"])

    def _attention(self, x, name):
        """Self-attention: its output, and its weights (batch, heads, tokens, tokens)."""
        heads = self.model.heads
        width = self.model.width // heads

        qkv = self.add("Split", self.dense(x, f"{name}.qkv"), outputs=3, axis=-1, num_outputs=3)
        q, k, v = (self.reshape(projected, 0, 0, heads, width) for projected in qkv)
        q = self.add("Transpose", q, perm=[0, 2, 1, 3])
        k = self.add("Transpose", k, perm=[0, 2, 3, 1])
        v = self.add("Transpose", v, perm=[0, 2, 1, 3])

        q = self.add("Mul", q, np.float32(width**-0.5))
        weights = self.add("Softmax", self.add("MatMul", q, k), axis=-1)
        x = self.add("Transpose", self.add("MatMul", weights, v), perm=[0, 2, 1, 3])
        return self.dense(self.reshape(x, 0, 0, -1), f"{name}.proj"), weights

    def _heads(self, x):
        """Adds "logits", the mean of the heads' logits."""
        logits = []
        for token, name in enumerate(["head", "head_dist"][: 1 + self.model.distilled]):
            token = self.add("Gather", x, self.constant(token, np.int64), axis=1)
            logits.append(self.dense(token, name))

        if self.model.distilled:
            total = self.add("Add", *logits)
            self.add("Mul", total, np.float32(0.5), name="logits")
        else:
            self.add("Identity", *logits, name="logits")
