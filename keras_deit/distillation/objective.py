"""The distillation objective: what a student learns from its teacher (paper, section 4)."""

import functools

import keras
import numpy as np
from keras import ops

from keras_deit.distillation.losses import (
    WEIGHTED_MEAN,
    HardLoss,
    SoftLoss,
    class_labels,
    has_targets,
)
from keras_deit.distillation.teacher import combine, logits_for
from keras_deit.utils.errors import UserError
from keras_deit.utils.gradients import without_gradients
from keras_deit.utils.keras_private import last_operation
from keras_deit.utils.validation import gives_fused_logits, rows_are_probabilities

KINDS = ("hard", "soft", "label")
REDUCTIONS = ("batch", "elements")


class Distillation:
    """The distillation head's loss, given to ``compile(distillation=...)``.

    The student's loss is ``(1 - alpha) * label loss + alpha * distillation loss``, and the
    distillation loss is, by kind:

    - hard: cross-entropy with the teacher's decision, its largest logit, as the label, without
      label smoothing.
    - soft: Kullback-Leibler divergence of the student from the teacher, both at temperature
      ``tau``, times ``tau**2``.
    - label: cross-entropy with the label, without a teacher, so that both heads of a distilled
      model that is fine-tuned learn the new classes.

    The teacher sees exactly the images that the student sees, in inference mode, without gradients,
    and normalized as it expects if the two differ in their ``preprocessing``. If both have class
    names, its logits are put in the student's order.
    It is not part of the student: neither the student's weights nor its files contain it.

    Several teachers are one: for soft distillation the mean of their probabilities, for hard
    distillation their majority, of which the mean probability is decisive in a tie.

    Without a teacher, the hard and the soft kind expect its logits in the batches: labels that are
    a dict of "labels" and "targets", such as ``keras_deit.data.train`` gives of a recipe with
    stored targets.

    Args:
        teacher: Keras model, or a list of them. Any classifier of the student's images that gives
            logits (batch, num_classes); ``keras_deit.adapt`` makes one of a model with another
            normalization, or one that gives probabilities. None for the kind "label", and for
            targets in the batches. Default None.
        kind: "hard", "soft" or "label". Default "hard".
        alpha: float in [0, 1]. Weight of the distillation loss. Default 0.5; the paper has 0.5 for
            hard and 0.1 for soft.
        tau: float above 0. Temperature of the soft kind. Default 1, as in the published code; the
            paper has 3.
        reduction: "batch" or "elements", of the soft kind. "batch" averages the divergence over
            images, as in the paper's formula; "elements" also divides it by the number of classes,
            as the published ``losses.py`` does. Default "batch".
        token: bool. Whether a distillation token learns from the teacher. False is for a student
            without one, whose class head learns from both (paper, Table 3, upper rows). Default
            True.

    Raises:
        UserError: an argument out of its range.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> import keras_deit as kd
        >>> student = kd.DeiT(16, patch_size=8, width=12, depth=1, heads=3, num_classes=5)
        >>> layers = [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
        >>> distillation = kd.Distillation(keras.Sequential(layers), kind="soft", alpha=0.1, tau=3)
        >>> student.compile("adamw", kd.loss(), distillation=distillation)
        >>> images, labels = np.zeros((4, 16, 16, 3)), np.eye(5)[:4]
        >>> history = student.fit(images, labels, verbose=0)
        >>> sorted(history.history)
        ['agreement', 'class_loss', 'distillation_loss', 'loss']
    """

    def __init__(
        self, teacher=None, kind="hard", alpha=0.5, tau=1.0, reduction="batch", token=True
    ):
        if kind not in KINDS:
            raise UserError(f"distillation kind {kind!r}: expected one of {', '.join(KINDS)}")
        if reduction not in REDUCTIONS:
            raise UserError(f"reduction {reduction!r}: expected one of {', '.join(REDUCTIONS)}")
        if not 0 <= alpha <= 1:
            raise UserError(f"alpha {alpha}: expected a fraction in [0, 1]")
        if not tau > 0:
            raise UserError(f"tau {tau}: expected a temperature above 0")

        if teacher is None:
            teacher = ()
        self.teachers = list(teacher) if isinstance(teacher, (list, tuple)) else [teacher]
        self.kind = kind
        self.alpha = alpha
        self.tau = tau
        self.reduction = reduction
        self.token = token

        losses = {
            "hard": HardLoss(),
            "soft": SoftLoss(tau, reduction),
            "label": keras.losses.CategoricalCrossentropy(
                from_logits=True, reduction=WEIGHTED_MEAN
            ),
        }
        self._loss = losses[kind]
        self._num_classes = None  # the student's, which ``check`` knows
        self._logits = None  # functions from the student's images, which ``check`` makes
        self._class_loss = keras.metrics.Mean(name="class_loss")
        self._distillation_loss = keras.metrics.Mean(name="distillation_loss")
        self._agreement = keras.metrics.Mean(name="agreement")

    @property
    def metrics(self):
        """Running means of training: ``class_loss``, ``distillation_loss``, and ``agreement``, the
        fraction of images on which the distillation head decides as its target does."""
        return [self._class_loss, self._distillation_loss, self._agreement]

    @property
    def variables(self):
        """The teachers' variables."""
        return [variable for teacher in self.teachers for variable in teacher.variables]

    @property
    def reads_targets(self):
        """Whether a teacher's logits are expected in the batches."""
        return self.kind != "label" and not self.teachers

    def target(self, images, labels):
        """The distillation head's target, float32 (batch, num_classes): the teacher's logits,
        without a gradient, or the labels.

        Args:
            images: float32 (batch, height, width, 3), as the student gets them.
            labels: for the kind "label" (batch, num_classes); without a teacher, a dict of "labels"
                and "targets", both (batch, num_classes).
        """
        if self.reads_targets:
            if not has_targets(labels):
                raise UserError(
                    f"distillation {self.kind} without a teacher, and batches without targets:"
                    ' expected a teacher, or labels that are a dict of "labels" and "targets"'
                )
            shape = tuple(labels["targets"].shape)
            expected = self._num_classes or shape[-1]
            if len(shape) != 2 or shape[1] != expected:
                raise UserError(f"targets {shape}: expected logits (batch, {expected})")
            return ops.cast(labels["targets"], "float32")

        labels = class_labels(labels)
        if self.kind == "label":
            if len(labels.shape) != 2:
                shape = tuple(labels.shape)
                raise UserError(f"labels {shape}: the kind label expects (batch, num_classes)")
            return ops.cast(labels, "float32")

        with without_gradients():
            # Until a student is known, its images are those that the teachers expect.
            functions = self._logits or [
                functools.partial(teacher, training=False) for teacher in self.teachers
            ]
            logits = [ops.cast(function(images), "float32") for function in functions]
            combined = logits[0] if len(logits) == 1 else combine(logits, self.kind)
        return ops.stop_gradient(combined)

    def distillation_loss(self, logits, target, weights=None):
        """The mean distillation loss of a batch, a scalar.

        Args:
            logits: the distillation head's, float32 (batch, num_classes).
            target: as ``target`` gives it.
            weights: None, or sample weights (batch,), by which the mean is weighted.
        """
        return self._loss(target, logits, sample_weight=weights)

    def loss(self, label_loss, distillation_loss):
        """The student's loss, from those of its heads; all are scalars."""
        return (1 - self.alpha) * label_loss + self.alpha * distillation_loss

    def update_metrics(self, label_loss, distillation_loss, count, logits, target, weights=None):
        """Adds a batch to ``metrics``: its mean losses, which weigh ``count``, and decisions."""
        self._class_loss.update_state(label_loss, sample_weight=count)
        self._distillation_loss.update_state(distillation_loss, sample_weight=count)

        agrees = ops.equal(ops.argmax(logits, axis=-1), ops.argmax(target, axis=-1))
        self._agreement.update_state(ops.cast(agrees, "float32"), sample_weight=weights)

    def check(self, student):
        """Fits the teacher to a student, or says before training why they are incompatible.

        Args:
            student: a model, which can be distilled if it is a ``DeiT``.

        Raises:
            UserError: they do not.
        """
        if not student.supports_distillation:
            raise UserError(
                f"{type(student).__name__} cannot be distilled: expected a DeiT student"
            )
        if self.token and not student.distilled:
            raise UserError(
                "the student has no distillation head: build it with distilled=True, or let its"
                " class head learn from the teacher too, with token=False"
            )
        if student.distilled and not self.token:
            raise UserError(
                "the student has a distillation head, which token=False leaves untrained: build it"
                " with distilled=False, or leave token=True"
            )

        if student.num_classes == 1:
            raise UserError(
                "a student of one class cannot be distilled, because the softmax of one logit is"
                " always 1: expected two classes or more"
            )
        if not gives_fused_logits(student):
            raise UserError(
                f"{type(student).__name__} overrides call, and distillation trains what logits"
                " returns: override logits instead, or compile it without distillation"
            )

        if self.kind == "label" and self.teachers:
            raise UserError("kind label with a teacher: expected none, or the kind hard or soft")
        for teacher in self.teachers:
            self._check_teacher(teacher, student)
        self._logits = [logits_for(teacher, student) for teacher in self.teachers]
        self._num_classes = student.num_classes

    def _check_teacher(self, teacher, student):
        name = getattr(teacher, "name", type(teacher).__name__)
        size = "x".join(map(str, student.image_size))
        if not isinstance(teacher, keras.layers.Layer):
            raise UserError(f"teacher {teacher!r}: expected a Keras model")

        # The optimizer would change the teacher, and JAX has one value for each variable.
        own = {id(variable) for variable in student.variables}
        shared = [variable.path for variable in teacher.variables if id(variable) in own]
        if shared:
            raise UserError(
                f"teacher {name} shares {len(shared)} variables with the student, {shared[0]} among"
                " them: expected a teacher with separate weights, such as"
                " keras.models.clone_model makes"
            )

        # Keras silently traces a functional model on images of another size or depth.
        images = keras.KerasTensor((None, *student.image_size, 3), "float32")
        expected = getattr(teacher, "input_shape", None)
        if isinstance(expected, tuple) and not _accepts(expected, images.shape):
            raise UserError(
                f"teacher {name} does not take the student's {size} images: it expects {expected}"
            )

        try:
            output = teacher(images, training=False)
        except Exception as error:  # whatever a user's model raises on a wrong input
            first_line = str(error).strip().splitlines()[0]
            raise UserError(
                f"teacher {name} does not take the student's {size} images: {first_line}"
            ) from error

        if not isinstance(output, keras.KerasTensor) or len(output.shape) != 2:
            shapes = keras.tree.map_structure(lambda tensor: tuple(tensor.shape), output)
            raise UserError(
                f"teacher {name} gives {shapes}: expected one output (batch, num_classes)"
            )
        if self.kind == "soft" and _ends_in_softmax(teacher, student.image_size):
            raise UserError(
                f"teacher {name} ends in a softmax, and soft distillation needs its logits:"
                " use keras_deit.adapt(teacher, ..., probabilities=True)"
            )
        if output.shape[-1] != student.num_classes:
            raise UserError(
                f"teacher {name} has {output.shape[-1]} classes and the student"
                f" {student.num_classes}: expected the same classes"
            )
        self._teacher_logits = logits_for(teacher, student)


def _accepts(expected, shape):
    return len(shape) == len(expected) and all(
        side in (None, given) for given, side in zip(shape, expected, strict=True)
    )


def _ends_in_softmax(model, image_size):
    """Whether a classifier gives probabilities: by its last layer, or else by its outputs.

    A log-softmax is not one: log-probabilities are logits whose softmax is theirs.
    """
    operation = last_operation(model)
    activation = getattr(operation, "activation", None)

    # ``keras.ops.softmax`` has the name of the layer.
    if activation is keras.activations.softmax or type(operation).__name__ == "Softmax":
        return True
    # A linear layer, or a model of this library.
    if activation is keras.activations.linear or gives_fused_logits(model):
        return False

    images = np.random.default_rng(0).normal(size=(2, *image_size, 3)).astype("float32")
    with without_gradients():
        outputs = ops.convert_to_numpy(model(images, training=False))
    return bool(rows_are_probabilities(outputs.astype("float32")).all())
