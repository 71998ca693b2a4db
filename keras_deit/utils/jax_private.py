"""Private behavior of Keras on JAX that this project relies on; see ``keras_private.py``."""

import keras

from keras_deit.utils.keras_private import PrivateName

_TRAINER = "keras.src.backend.jax.trainer.JAXTrainer"

NAMES = (
    PrivateName(
        _TRAINER,
        "jax_state_sync",
        (),
        "keras/src/backend/jax/trainer.py:880",
        "sync_variables: checkpoints in the middle of an epoch",
    ),
    PrivateName(
        _TRAINER,
        "_get_jax_state",
        (
            "trainable_variables",
            "non_trainable_variables",
            "optimizer_variables",
            "metrics_variables",
            "purge_model_variables",
        ),
        "keras/src/backend/jax/trainer.py:1039",
        "JaxTrainer.non_trainable_variables: the state of a step is read from that property",
    ),
)


def sync_variables(model):
    """Gives the model's variables the values of the step at hand, which ``fit`` on JAX keeps to
    itself until its end. Nothing to do on another backend."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()
