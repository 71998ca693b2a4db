"""The training step on JAX, compiled ahead of time for devices that need not be there, and what the
compiler says of its work and memory: printed as Markdown."""

import dataclasses
import importlib.util
import time

import keras

from keras_deit.configs.recipes import RECIPES
from keras_deit.models.factory import build
from keras_deit.training.from_recipe import compile_for, precision
from keras_deit.utils.errors import UserError

TAUGHT = {  # the recipe of a variant that the paper's teacher teaches
    RECIPES[name].variant: RECIPES[name]
    for name in ("deit_tiny_distilled", "deit_small_distilled", "deit_base_distilled")
}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one step on one chip: floating-point operations, bytes of what it is given (state and
    images) and of what it needs in between, and the seconds that its compilation took."""

    flops: float
    arguments: int
    temporaries: int
    seconds: float


def report(variants, images, topology):
    """Prints a row for each of ``variants``, keys of ``TAUGHT``, as soon as it is compiled.

    Args:
        variants: names of the students.
        images: how many images a chip has in a step.
        topology: a name that libtpu knows, as v5e:2x2.

    Raises:
        UserError: JAX or libtpu is not there, or knows no such topology.
    """
    import jax

    devices = tpus(topology)
    head = "images a chip | TFLOP | arguments | temporaries | fits | compiled"
    print(f"| {devices[0].device_kind}, {topology} | {head} |")
    print("| --- | ---: | ---: | ---: | ---: | --- | ---: |", flush=True)
    for variant in variants:
        try:
            cells = of_cost(compiled(planned(variant, images, len(devices)), devices))
        except jax.errors.JaxRuntimeError as error:
            cells = of_shortage(error)
        print(f"| {variant} | {images} | {cells} |", flush=True)


def planned(variant, images, chips):
    """The recipe that is compiled: the paper's, in bfloat16, with so many images on each chip."""
    return dataclasses.replace(
        TAUGHT[variant],
        batch_size=images * chips,
        mix_group=0,  # of the data, and no divisor of every batch
        precision="mixed_bfloat16",
    )


def of_cost(cost):
    """The row of a ``Cost``, from TFLOP on."""
    sizes = (f"{size / 2**30:.2f} GiB" for size in (cost.arguments, cost.temporaries))
    return " | ".join([f"{cost.flops / 1e12:.2f}", *sizes, "yes", f"{cost.seconds:.0f} s"])


def of_shortage(error):
    """The row of a step for which the chip's memory is too small, in the compiler's words; raises
    any other error."""
    kind, _, words = str(error).splitlines()[0].partition(": ")
    if kind != "RESOURCE_EXHAUSTED":
        raise error
    return f"- | - | - | no: {words} | -"


def tpus(topology):
    """The devices of a TPU topology, to compile for: libtpu needs no TPU for that."""
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
        if "INVALID_ARGUMENT" not in str(error):
            raise
        raise UserError(
            f"topology {topology!r}: expected one that libtpu knows, as v5e:2x2 or v5e:4x4: {error}"
        ) from error


def compiled(recipe, devices):
    """The ``Cost`` of the recipe's step as XLA compiles it for ``devices``: each has its part of
    the batch and a copy of the state. Nothing is trained, and the teacher is an untrained one.

    Args:
        recipe: a ``Recipe`` with a teacher that is a variant or a recipe; its batch is that of
            all devices.
        devices: JAX devices, of this host or of a topology.

    Raises:
        UserError: Keras is not on JAX.
    """
    _check_backend()
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    with precision(recipe):
        known = RECIPES.get(recipe.teacher)
        teacher = build(known.variant if known else recipe.teacher)
        model = build(recipe.variant, image_size=recipe.image_size, drop_path=recipe.drop_path)
    compile_for(model, recipe, teacher, steps=1)
    state = [
        [jax.ShapeDtypeStruct(variable.shape, variable.dtype) for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    ]
    shapes = (*model.image_size, 3), (model.num_classes,)
    batch = tuple(jax.ShapeDtypeStruct((recipe.batch_size, *x), "float32") for x in shapes)
    mesh = Mesh(devices, "batch")
    whole, parts = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("batch",)))
    shardings = {"in_shardings": (whole, parts), "out_shardings": whole}
    step = jax.jit(model.train_step, **shardings, donate_argnums=0)
    start = time.perf_counter()
    program = step.lower(state, batch).compile()
    seconds, memory = time.perf_counter() - start, program.memory_analysis()
    return Cost(
        program.cost_analysis()["flops"],
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        seconds,
    )


def _check_backend():
    if keras.backend.backend() != "jax":
        raise UserError(f"Keras is on {keras.backend.backend()}: expected KERAS_BACKEND=jax")
