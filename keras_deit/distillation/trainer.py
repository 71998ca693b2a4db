"""How a model trains: Keras' ``fit`` with distillation, in parts of a batch, on several devices."""

import contextlib

import keras

from keras_deit.distillation.losses import MEAN, images_in
from keras_deit.distribution import replicas
from keras_deit.utils.errors import UserError

CLIPS = ("clipnorm", "global_clipnorm", "clipvalue")

if keras.backend.backend() == "tensorflow":
    from keras_deit.distillation.tensorflow_trainer import TensorFlowSteps as BackendSteps
elif keras.backend.backend() == "jax":
    from keras_deit.distillation.jax_trainer import JaxSteps as BackendSteps
else:

    class BackendSteps:
        """Keras' own steps, without what is ours."""

        home = contextlib.nullcontext


class Steps(BackendSteps):
    """The part of a Keras model that trains it. It has ``logits(images, training)``, which gives a
    list of a tensor for each head, and is called for their mean."""

    distillation, accumulate = None, 1

    def compile(self, *args, distillation=None, accumulate=1, **kwargs):
        """Keras' ``compile``, and

        distillation: a ``Distillation``, or None to train the fused logits on the labels.
        accumulate: into how many parts a step divides its batch, one after another, for the memory
            of one part; the gradients are those of the whole batch.

        Under a strategy of several replicas ``jit_compile=True`` has XLA compile what each replica
        does with its images, and not their exchange of gradients.

        Raises UserError when teacher and student do not fit together, and for what Keras would get
        wrong with several replicas.
        """
        if distillation is not None:
            distillation.check(self)
        _check_backend(distillation, accumulate)
        with self.home():  # wherever it is called
            self.distillation, self.accumulate = distillation, accumulate
            super().compile(*args, **kwargs)
            if replicas.count() > 1:
                _check_replicas(self)
            if replicas.count() * accumulate > 1 and _reduction(self) in ("sum", "none", None):
                raise UserError("a batch that is divided needs a loss that is a mean, not a sum")
            if self.optimizer and not self.optimizer.built:  # not in the first step, traced twice
                self.optimizer.build(self.trainable_variables)

    @property
    def metrics(self):
        own = self.distillation.metrics if self.distillation else []
        return super().metrics + own

    def forward(self, images, labels, weights=None, training=True):
        """The mean loss over these images, a scalar, which is also added to the metrics.

        With a ``Distillation`` the class head learns the labels and the distillation head what
        that says, on the same images (paper, section 4).
        """
        distillation = self.distillation if training else None
        whole = replicas.count()  # by which Keras divides a loss
        target = distillation.target(images, labels) if distillation else None
        logits = self.logits(images, training=training)
        fused = fuse(logits)
        head = logits[0] if distillation else fused
        loss = whole * self.compute_loss(images, labels, head, weights, training=training)
        if distillation:
            label_loss = loss
            teacher_loss = whole * distillation.distillation_loss(logits[-1], target, weights)
            distillation.update_metrics(label_loss, teacher_loss, logits[-1], target, weights)
            loss = distillation.loss(label_loss, teacher_loss)
        self._loss_tracker.update_state(loss, sample_weight=images_in(images, weights))
        self.compute_metrics(images, labels, fused, weights)
        return loss

    def results(self, training):
        """The metrics' values by name; without the distillation's, which belong to training,
        elsewhere."""
        own = self.distillation.metrics if self.distillation and not training else ()
        own = {metric.name for metric in own}
        return {name: x for name, x in self.get_metrics_result().items() if name not in own}

    def _get_metrics_result_or_logs(self, logs):
        """Keras', which asks the metrics, and so all replicas, only where ``logs`` has them all."""
        return {name: x for name, x in self.get_metrics_result().items() if name in logs} or logs

    def weigh(self, weights, parts):
        """Raises UserError for sample weights in so many parts of a batch that cannot make the
        whole."""
        if weights is not None and parts > 1 and _reduction(self) != MEAN:
            raise UserError(
                "sample weights in a batch that is divided: expected keras_deit.loss, or a Keras"
                f" loss with reduction={MEAN!r}"
            )


def _reduction(model):
    return getattr(model.loss, "reduction", "mean")


def fuse(logits):
    """The heads' prediction: the mean of their logits."""
    return sum(logits) / len(logits)


def _check_backend(distillation, accumulate):
    what = "accumulation" if accumulate > 1 else "distillation" if distillation else None
    backend = keras.backend.backend()
    if what and backend not in ("tensorflow", "jax"):
        raise UserError(
            f"{what} does not train on the {backend} backend: set KERAS_BACKEND=tensorflow or jax"
        )


def _check_replicas(model):
    optimizer = model.optimizer
    ours = hasattr(type(optimizer), "averages")
    wrong = None
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        wrong = "mixed_float16: an infinite gradient of one replica makes the weights no numbers"
    elif any(getattr(optimizer, name, None) for name in CLIPS) and not ours:
        wrong = "Keras' clipping: it clips the gradients of each replica before they are summed"
    elif getattr(optimizer, "gradient_accumulation_steps", None):
        wrong = "gradient_accumulation_steps: it fails there; give compile accumulate= instead"
    elif getattr(optimizer, "ema_overwrite_frequency", None):
        wrong = "ema_overwrite_frequency: it fails there"
    elif model.steps_per_execution > 1:
        wrong = "steps_per_execution: it fails there"
    if wrong:
        raise UserError(
            f"several replicas cannot train with {wrong}; expected mixed_bfloat16 or float32, an"
            " optimizer of keras_deit.optimizer, and Keras' defaults for the rest"
        )
