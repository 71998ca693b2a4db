"""One device, two replicas, two workers, JAX on one, two and four devices and in two processes, and
PyTorch if it is installed, take the same steps. Each engine has its own processes
(programs/engines.py)."""

import functools
import itertools

import numpy as np
import pytest

from tests.programs import engines
from tests.programs.clusters import environments, run_together

PLAIN = """
import numpy as np, tensorflow as tf, keras
class Model(keras.Sequential):
    {own}
strategy = tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    model = Model([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
rows = tf.data.Dataset.from_tensor_slices((np.ones((8, 3), "float32"), np.ones((8, 2), "float32")))
model.fit(rows.batch(4), verbose=0)
"""


MORE = {
    "one device": ["accumulated"],
    "two replicas": ["xla", "doubled", "clipped apart"],
    "JAX, one device": ["accumulated"],
    "JAX, two devices": ["accumulated"],
    "torch, one device": ["accumulated"],
}
ACCUMULATED = [engine for engine in engines.ENGINES if "accumulated" in MORE.get(engine, ())]
FIRST = {  # an engine of each backend
    "tensorflow": "one device",
    "jax": "JAX, one device",
    "torch": "torch, one device",
}
INSTALLED = [engine for engine in FIRST.values() if engine in engines.ENGINES]
PAIRS = list(itertools.combinations(INSTALLED, 2))


@pytest.fixture(scope="module")
def results(forks, tmp_path_factory):
    """The results of an engine by its name; each engine runs once."""
    folder = tmp_path_factory.mktemp("engines")

    @functools.cache
    def results_of(engine):
        return engines.run(forks, engine, ("adamw", "bfloat16", *MORE.get(engine, ())), folder)

    return results_of


def same(results, expected, case, largest, relative):
    distance = engines.distance(results, expected, case)
    return distance[0] <= largest and distance[1] <= relative


@pytest.mark.slow
@pytest.mark.parametrize("engine", list(engines.ENGINES)[1:])
def test_every_engine_matches_one_device(results, engine):
    one = results("one device")[0]
    kind, devices, processes = engines.ENGINES[engine]
    own = results(FIRST[engines.backend_of(kind)])[0]
    for process in results(engine):
        assert same(process, one, "adamw", 1e-6, 0.01)
        assert process["devices"] == (2 if engine == "two replicas" else devices * processes)
        for what in ("logs", "scores"):
            np.testing.assert_allclose(process[f"adamw/{what}"], one[f"adamw/{what}"], atol=1e-6)
        # Each backend rounds in its own way.
        assert same(process, own, "bfloat16", 1e-4, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_backends_match_each_other(results, first, second):
    assert same(results(first)[0], results(second)[0], "adamw", 1e-6, 0.01)


@pytest.mark.slow
def test_xla_compiles_each_replicas_step(results):
    two = results("two replicas")[0]
    assert same(two, results("one device")[0], "xla", 1e-6, 0.01)
    assert len(two["compiled"]) == 2
    assert min(two["compiled"]) > 30  # matrix products, of the model and of its gradients


@pytest.mark.slow
@pytest.mark.parametrize("engine", ACCUMULATED)
def test_accumulation_matches_the_whole_batch_on_every_engine(results, engine):
    assert same(results(engine)[0], results("one device")[0], "accumulated", 1e-6, 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["doubled", "clipped apart"])
def test_wrong_engines_fail_the_comparison(results, case):
    two = results("two replicas")[0]
    assert not same(two, results("one device")[0], case, 1e-6, 0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "message"),
    [
        ("pass", "PerReplica"),
        ("def _maybe_symbolic_build(self, **batch): pass", "Invalid reduction dimension"),
    ],
    ids=["_maybe_symbolic_build", "_make_function"],
)
def test_keras_still_needs_our_overrides_for_several_workers(forks, own, message):
    """When one of these passes, Keras does it right, and our method of that name can go."""
    arguments = ["-c", PLAIN.format(own=own)]
    commands = [(arguments, environ) for environ in environments("tensorflow")]
    ended = run_together(forks, commands)
    assert all(process.returncode for process in ended)
    assert any(message in process.stderr for process in ended), ended[0].stderr[-2000:]


def test_distance_is_the_largest_of_all_weights():
    start = {"adamw/start/0": np.zeros(2), "adamw/start/1": np.zeros(2)}
    one = {**start, "adamw/weights/0": np.array([3.0, 4.0]), "adamw/weights/1": np.ones(2)}
    other = {**one, "adamw/weights/0": np.array([3.0, 4.5])}
    assert engines.distance(other, one, "adamw") == (0.5, 0.1)
