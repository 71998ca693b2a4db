"""The JAX training step, compiled ahead of time for devices that are not attached: the work and
memory that the compiler reports, as Markdown."""

import dataclasses
import importlib.util
import time

import keras

from keras_deit.configs.recipes import RECIPES
from keras_deit.models.factory import build
from keras_deit.training import from_recipe
from keras_deit.utils import tables
from keras_deit.utils.errors import UserError

# The paper's recipe for each student of its convnet teacher, by the student's variant.
STUDENTS = {
    RECIPES[name].variant: RECIPES[name]
    for name in ("deit_tiny_distilled", "deit_small_distilled", "deit_base_distilled")
}


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one step costs on one chip.

    Attributes:
        flops: float. Floating-point operations.
        arguments: int. Bytes of the step's inputs: the state and the images.
        temporaries: int. Bytes of temporary buffers.
        seconds: float. Seconds that the compilation took.
    """

    flops: float
    arguments: int
    temporaries: int
    seconds: float


def report(variants, images, topology):
    """Prints a table row for each variant as soon as its step is compiled.

    Args:
        variants: list of str. Keys of ``STUDENTS``.
        images: int. Images on each chip in a step.
        topology: str. A name that libtpu knows, such as "v5e:2x2".

    Raises:
        UserError: JAX or libtpu is not installed, or does not know the topology.
    """
    import jax

    devices = tpus(topology)
    header = [f"{devices[0].device_kind}, {topology}", "images per chip", "TFLOP", "arguments"]
    header += ["temporaries", "fits", "compiled"]
    print(tables.markdown(header, []), flush=True)

    for variant in variants:
        recipe = recipe_for(variant, images, len(devices))
        try:
            cells = cost_cells(compile_step(recipe, devices))
        except jax.errors.JaxRuntimeError as error:
            cells = shortage_cells(error)
        print(tables.markdown_row([variant, images, *cells]), flush=True)


def recipe_for(variant, images, chips):
    """The recipe to compile: the paper's in bfloat16, with ``images`` on each of ``chips``."""
    return dataclasses.replace(
        STUDENTS[variant],
        batch_size=images * chips,
        mix_group=0,  # it concerns only the data, and does not divide every batch
        precision="mixed_bfloat16",
    )


def cost_cells(cost):
    """The cells of a ``Cost``, from TFLOP on."""
    sizes = [f"{size / 2**30:.2f} GiB" for size in (cost.arguments, cost.temporaries)]
    return [f"{cost.flops / 1e12:.2f}", *sizes, "yes", f"{cost.seconds:.0f} s"]


def shortage_cells(error):
    """The cells of a step that does not fit into the chip's memory, with the compiler's words.
    Raises any other JaxRuntimeError again."""
    status, message = status_and_message(error)
    if status != "RESOURCE_EXHAUSTED":
        raise error
    return ["-", "-", "-", f"no: {message}", "-"]


def status_and_message(error):
    """The status code of a JaxRuntimeError, such as "INVALID_ARGUMENT", and its first line.

    JAX has a single class for all errors of XLA, and their status as the text before a colon.
    """
    status, _, message = str(error).partition("\n")[0].partition(": ")
    return status, message


def tpus(topology):
    """The devices of a TPU topology, to compile for. libtpu needs no TPU for that.

    Raises:
        UserError: as ``report``.
    """
    missing = [name for name in ("jax", "libtpu") if importlib.util.find_spec(name) is None]
    if missing:
        names = " ".join(missing)
        raise UserError(f"{names} not found: expected JAX and libtpu: pip install {names}")
    _check_backend()

    import jax
    from jax.experimental import topologies

    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except jax.errors.JaxRuntimeError as error:
        raise unknown_topology(topology, error) from error


def unknown_topology(topology, error):
    """The UserError of a topology that libtpu does not know. Raises any other JaxRuntimeError
    again."""
    status, message = status_and_message(error)
    if status != "INVALID_ARGUMENT":
        raise error
    return UserError(
        f"topology {topology!r}: expected one that libtpu knows, such as v5e:2x2 or v5e:4x4:"
        f" {message}"
    )


def compile_step(recipe, devices):
    """The ``Cost`` of a recipe's training step, compiled by XLA for ``devices``.

    Each device has its fraction of the batch and a copy of the state. Nothing is trained, and the
    teachers have random weights.

    Args:
        recipe: a ``Recipe`` whose teachers are variants or recipes. Its batch is that of all
            devices.
        devices: list of JAX devices, of this host or of a topology.

    Raises:
        UserError: Keras does not run on JAX.
    """
    _check_backend()
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    variants = [RECIPES[name].variant if name in RECIPES else name for name in recipe.teacher]
    with from_recipe.precision(recipe):
        teachers = [build(variant) for variant in variants]
    class_names = teachers[0].class_labels
    model = from_recipe.build(recipe, class_names, steps_per_epoch=1, teachers=teachers)

    mesh = Mesh(devices, "batch")
    replicated = NamedSharding(mesh, PartitionSpec())
    split_by_image = NamedSharding(mesh, PartitionSpec("batch"))
    step = jax.jit(
        model.train_step,
        in_shardings=(replicated, split_by_image),
        out_shardings=replicated,
        donate_argnums=0,  # the new state takes the old one's memory
    )

    # Shapes are enough to compile: no array is as large as a model or a batch.
    start = time.perf_counter()
    program = step.lower(_state_shapes(model), _batch_shapes(model, recipe.batch_size)).compile()
    seconds = time.perf_counter() - start

    memory = program.memory_analysis()
    return Cost(
        flops=program.cost_analysis()["flops"],
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        seconds=seconds,
    )


def _state_shapes(model):
    """The shapes of what Keras' JAX ``train_step`` takes as its state, in its order."""
    import jax

    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    return [
        [jax.ShapeDtypeStruct(variable.shape, variable.dtype) for variable in variables]
        for variables in groups
    ]


def _batch_shapes(model, batch_size):
    """The shapes of a batch's images and labels."""
    import jax

    return (
        jax.ShapeDtypeStruct((batch_size, *model.image_size, 3), "float32"),
        jax.ShapeDtypeStruct((batch_size, model.num_classes), "float32"),
    )


def _check_backend():
    backend = keras.backend.backend()
    if backend != "jax":
        raise UserError(f"Keras runs on {backend}: expected KERAS_BACKEND=jax")
