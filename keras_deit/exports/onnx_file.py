"""ONNX: the graph of a DeiT, written down operation by operation.

Keras' own way, tf2onnx, writes ``Erfc``, which is no operator of ONNX, and takes a LayerNorm apart
into nine; here a block is what it is in the paper, in operators that runtimes know as such.
"""

import numpy as np

from keras_deit.exports import graphs
from keras_deit.models.deit import DeiT
from keras_deit.models.deit_layers import EPSILON
from keras_deit.utils.errors import UserError
from keras_deit.weights.names import to_timm, variables

OPSET, IR = 20, 10  # the first with Gelu; ONNX Runtime 1.18 or newer reads it


def write(model, path, sides, crop, batch=None, attention=False):
    """Writes the file: normalised float32 images (batch, height, width, 3) to ``logits`` and, if
    asked for, ``attention``. What ``graphs.metadata`` says is in its metadata properties.

    Args:
        model, sides, crop, batch, attention: see ``saved_model.write``.
        path: of the file.

    Raises:
        UserError: the model is a ``RegNetY``.
    """
    import onnx

    if not isinstance(model, DeiT):
        raise UserError("a RegNetY has no ONNX export: expected a DeiT, or .tflite or SavedModel")
    graph = Graph()
    found = _outputs(graph, model, attention)
    rows = "batch" if batch is None else batch
    patches = sides[0] // model.patch_size * (sides[1] // model.patch_size)
    tokens = patches + 1 + model.distilled
    shapes = {
        "logits": (rows, model.num_classes),
        "attention": (rows, model.depth, model.heads, tokens, tokens),
    }
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    made = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "DeiT",
            [helper.make_tensor_value_info("images", kind, (rows, *sides, 3))],
            [helper.make_tensor_value_info(name, kind, shapes[name]) for name in found],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="keras_deit",
    )
    helper.set_model_props(made, graphs.metadata(model, crop, sides))
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, path)


class Graph:
    """Nodes and constants as they are added."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value, kind=np.float32):
        """The name of an array among the constants."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        array = np.asarray(value, kind, order="C")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator, *inputs, outputs=1, name=None, **attributes):
        """The name, or names, of what an operator makes of its inputs, names or arrays."""
        from onnx import helper

        inputs = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        made = [name or f"{operator}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, made, **attributes))
        return made[0] if outputs == 1 else made

    def reshape(self, x, *shape):
        """``x`` in another shape, in which 0 is a side as it was."""
        return self.add("Reshape", x, self.constant(shape, np.int64))


def _outputs(graph, model, attention):
    """Adds the whole model; gives its outputs' names."""
    weights = {name: to_timm(name, np.array(value)) for name, value in variables(model).items()}

    def dense(x, name):
        x = graph.add("MatMul", x, weights[f"{name}.weight"].T)
        return graph.add("Add", x, weights[f"{name}.bias"])

    def norm(x, name):
        scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return graph.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=EPSILON)

    x, maps = _tokens(graph, model, weights), []
    for i in range(model.depth):
        block = f"blocks.{i}"
        y, seen = _attention(
            graph, model, norm(x, f"{block}.norm1"), weights, f"{block}.attn", dense
        )
        maps.append(seen)
        x = graph.add("Add", x, y)
        y = dense(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")
        x = graph.add("Add", x, dense(graph.add("Gelu", y), f"{block}.mlp.fc2"))
    x = norm(x, "norm")
    heads = []
    for token, head in enumerate(["head", "head_dist"][: 1 + model.distilled]):
        seen = graph.add("Gather", x, graph.constant(token, np.int64), axis=1)
        heads.append(dense(seen, head))
    if len(heads) > 1:
        heads = [graph.add("Mul", graph.add("Add", *heads), np.float32(0.5))]
    graph.add("Identity", heads[0], name="logits")
    if not attention:
        return ["logits"]
    one = graph.constant([1], np.int64)
    maps = [graph.add("Unsqueeze", seen, one) for seen in maps]
    graph.add("Concat", *maps, axis=1, name="attention")
    return ["logits", "attention"]


def _tokens(graph, model, weights):
    x = graph.add("Transpose", "images", perm=[0, 3, 1, 2])
    patch = [model.patch_size] * 2
    projection = weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"]
    x = graph.add("Conv", x, *projection, kernel_shape=patch, strides=patch)
    x = graph.add("Transpose", graph.reshape(x, 0, 0, -1), perm=[0, 2, 1])
    tokens = [weights[name] for name in ("cls_token", "dist_token") if name in weights]
    prefix = np.concatenate(tokens, axis=1)
    count = graph.add("Shape", "images", start=0, end=1)
    shape = graph.add("Concat", count, graph.constant(prefix.shape[1:], np.int64), axis=0)
    x = graph.add("Concat", graph.add("Expand", prefix, shape), x, axis=1)
    return graph.add("Add", x, weights["pos_embed"])


def _attention(graph, model, x, weights, name, dense):
    """What the attention adds to the tokens, and its weights (batch, heads, tokens, tokens)."""
    width = model.width // model.heads
    qkv = graph.add("Split", dense(x, f"{name}.qkv"), outputs=3, axis=-1, num_outputs=3)
    q, k, v = (graph.reshape(part, 0, 0, model.heads, width) for part in qkv)
    q, v = (graph.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (q, v))
    q = graph.add("Mul", q, np.float32(width**-0.5))
    k = graph.add("Transpose", k, perm=[0, 2, 3, 1])
    seen = graph.add("Softmax", graph.add("MatMul", q, k), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", seen, v), perm=[0, 2, 1, 3])
    return dense(graph.reshape(mixed, 0, 0, -1), f"{name}.proj"), seen
