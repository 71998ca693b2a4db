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
    """Updates the model's variables to the current step during ``fit``. On JAX ``fit`` otherwise
    does so only at its end; other backends always do."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()
