"""How a model trains: Keras' ``fit`` with distillation, gradient accumulation and replicas."""

import contextlib
import functools
import inspect

import keras

from keras_deit.distillation.batch_sizes import batch_sizes
from keras_deit.distillation.losses import WEIGHTED_MEAN, class_labels, image_count
from keras_deit.distribution import replicas
from keras_deit.utils.errors import UserError
from keras_deit.utils.keras_private import OptimizerHooks, TrainerHooks

CLIPPING = ("clipnorm", "global_clipnorm", "clipvalue")  # of Keras' optimizers

if keras.backend.backend() == "tensorflow":
    from keras_deit.distillation.tensorflow_trainer import TensorFlowTrainer as BackendTrainer
elif keras.backend.backend() == "jax":
    from keras_deit.distillation.jax_trainer import JaxTrainer as BackendTrainer
elif keras.backend.backend() == "torch":
    from keras_deit.distillation.torch_trainer import TorchTrainer as BackendTrainer
else:

    class BackendTrainer:
        """Keras' own steps, without distillation and accumulation."""

        strategy_scope = contextlib.nullcontext
        compiles_replicas = False


class DistillationTrainer(BackendTrainer, TrainerHooks):
    """A mixin before ``keras.Model`` that trains it.

    The model gives ``logits(images, training)``, a list of one tensor per head, and is called for
    their mean.
    """

    # bool. Whether the model can be a student: teachers are checked on images of its one size.
    supports_distillation = False

    distillation = None
    accumulate = 1

    def compile(self, *args, distillation=None, accumulate=1, **kwargs):
        """Keras' ``compile`` with two more arguments.

        Under a strategy of several replicas ``jit_compile=True`` has XLA compile what each replica
        does with its images, and not their exchange of gradients.

        Args:
            *args: as for Keras.
            distillation: a ``Distillation``, or None to train the fused logits on the labels.
            accumulate: int. Number of micro-batches that a step divides its batch into, to need
                the memory of only one of them; the gradients are those of the whole batch.
                Default 1.
            **kwargs: as for Keras.

        Raises:
            UserError: teacher and student are incompatible; or a setting that Keras computes
                incorrectly with several replicas.
        """
        if distillation is not None:
            distillation.check(self)
        _check_backend(distillation, accumulate)

        with self.strategy_scope():  # also if compile is called outside of it
            self.distillation = distillation
            self.accumulate = accumulate
            super().compile(*args, **kwargs)

            if distillation is not None and self.loss is None:
                raise UserError(
                    "distillation without a loss of the labels: give compile a loss, such as"
                    " keras_deit.loss()"
                )
            if replicas.count() > 1:
                _check_replicas(self)
            if replicas.count() * accumulate > 1 and _reduction(self) in ("sum", "none", None):
                raise UserError("a batch that is divided needs a loss that is a mean, not a sum")

            # Now, and not in the first step, which is traced twice.
            if self.optimizer and not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)

    @functools.wraps(keras.Model.fit)
    def fit(self, *args, **kwargs):
        call = inspect.signature(keras.Model.fit).bind(self, *args, **kwargs)

        # An epoch of so many steps may end before the last batch; the step itself checks it.
        if not call.arguments.get("steps_per_epoch"):
            with self.strategy_scope():
                self._check_batch_sizes(call.arguments)

        return super().fit(*args, **kwargs)

    def _check_batch_sizes(self, arguments):
        """Checks the sizes of the batches that ``fit`` makes of its arguments, where known."""
        split = 0.0 if arguments.get("validation_data") else arguments.get("validation_split", 0.0)
        sizes = batch_sizes(arguments.get("x"), arguments.get("batch_size"), split)

        for size in sizes:
            divides = size % (replicas.count() * self.accumulate) == 0
            if not divides and (self.accumulate > 1 or size < replicas.count()):
                raise UserError(self.indivisible(size))

    def indivisible(self, size=None):
        """The message for a batch that does not divide among replicas and micro-batches.

        Args:
            size: int. The batch's images, if known.
        """
        with self.strategy_scope():
            devices = replicas.count()

        images = "" if size is None else f" of {size} images"
        if self.accumulate == 1:
            problem = f"a batch{images} does not divide among {devices} devices"
            expected = f"at least {devices}"
        else:
            problem = f"a batch{images} does not divide into {self.accumulate} micro-batches"
            problem += f" on each of {devices} devices" * (devices > 1)
            expected = f"a multiple of {devices * self.accumulate}"
        return (
            f"{problem}: expected {expected} images in every batch; drop a smaller last batch, or"
            " choose another batch_size"
        )

    @property
    def metrics(self):
        """Keras' metrics, and those of the distillation."""
        return super().metrics + (self.distillation.metrics if self.distillation else [])

    def forward_loss(self, images, labels, weights=None, training=True):
        """The mean loss over a batch, which is also added to the metrics.

        With a ``Distillation`` the class head learns the labels and the distillation head learns
        its target, on the same images (paper, section 4). Otherwise the model is called, as any
        Keras model is.

        Args:
            images: float32 (batch, height, width, 3).
            labels: as the model's loss expects them; or a dict of those and a teacher's "targets".
            weights: None, or sample weights (batch,).
            training: bool. Whether this is a training step; evaluation does not distill.

        Returns:
            A scalar tensor.
        """
        distillation = self.distillation if training else None
        keras_divisor = replicas.count()  # Keras divides a loss by the number of replicas

        count = self._loss_weight(images, weights)

        if distillation:
            # The teacher goes first: its activations are gone before the student's are kept.
            target = distillation.target(images, labels)
            logits = self.logits(images, training=training)
            label_logits = logits[0]
            fused = fuse(logits)
        else:
            label_logits = fused = self(images, training=training)

        label_loss = keras_divisor * self.compute_loss(
            images, labels, label_logits, weights, training=training
        )
        loss = label_loss
        if distillation:
            teacher_loss = keras_divisor * distillation.distillation_loss(
                logits[-1], target, weights
            )
            distillation.update_metrics(
                label_loss, teacher_loss, count, logits[-1], target, weights
            )
            loss = distillation.loss(label_loss, teacher_loss)

        self._mean_loss.update_state(loss, sample_weight=count)
        self.compute_metrics(images, labels, fused, weights)
        return loss

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Keras' own, of labels that may have a teacher's targets beside them."""
        return super().compute_loss(x, class_labels(y), y_pred, sample_weight, training=training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Keras' own, of labels that may have a teacher's targets beside them."""
        return super().compute_metrics(x, class_labels(y), y_pred, sample_weight)

    def _loss_weight(self, images, weights):
        """The weight of a batch's loss in an epoch's mean: the sum of its sample weights if its own
        mean is over those, and otherwise, as in Keras, its number of images."""
        return image_count(images, weights if _reduction(self) == WEIGHTED_MEAN else None)

    @property
    def _mean_loss(self):
        """Keras' running mean of the loss."""
        return next(metric for metric in self.metrics if metric.name == "loss")

    def metric_results(self, training):
        """The metrics' values by name; those of the distillation only in training."""
        results = self.get_metrics_result()
        if self.distillation and not training:
            for metric in self.distillation.metrics:
                results.pop(metric.name, None)
        return results

    def check_weights(self, weights, divisions):
        """Checks that means over the divisions of a batch combine to the mean over the batch.

        Args:
            weights: sample weights (batch,), or None.
            divisions: int. Micro-batches times replicas.

        Raises:
            UserError: they cannot be combined with the model's loss.
        """
        if weights is not None and divisions > 1 and _reduction(self) != WEIGHTED_MEAN:
            raise UserError(
                "sample weights cannot be combined across micro-batches or replicas with this"
                " loss: expected keras_deit.loss, or a Keras loss with"
                f" reduction={WEIGHTED_MEAN!r}"
            )


def fuse(logits):
    """The mean of the heads' logits, the model's prediction.

    Args:
        logits: list of tensors (batch, num_classes), one per head.
    """
    return sum(logits) / len(logits)


def _reduction(model):
    return getattr(model.loss, "reduction", "mean")


def _check_backend(distillation, accumulate):
    backend = keras.backend.backend()
    if backend in ("tensorflow", "jax", "torch"):
        return

    if accumulate > 1:
        raise UserError(
            f"accumulation does not train on the {backend} backend: set KERAS_BACKEND=tensorflow,"
            " jax or torch"
        )
    if distillation:
        raise UserError(
            f"distillation does not train on the {backend} backend: set KERAS_BACKEND=tensorflow,"
            " jax or torch"
        )


def _check_replicas(model):
    optimizer = model.optimizer
    clips = any(getattr(optimizer, name, None) for name in CLIPPING)

    problem = None
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        problem = "mixed_float16: an infinite gradient of one replica makes the weights NaN"
    elif clips and not isinstance(optimizer, OptimizerHooks):
        problem = "Keras' clipping: it clips the gradients of each replica before they are summed"
    elif getattr(optimizer, "gradient_accumulation_steps", None):
        problem = "gradient_accumulation_steps: it fails there; give compile accumulate= instead"
    elif getattr(optimizer, "ema_overwrite_frequency", None):
        problem = "ema_overwrite_frequency: it fails there"
    elif model.steps_per_execution > 1:
        problem = "steps_per_execution: it fails there"

    if problem:
        raise UserError(
            f"several replicas cannot train with {problem}; expected mixed_bfloat16 or float32, an"
            " optimizer of keras_deit.optimizer, and Keras' defaults for the rest"
        )
