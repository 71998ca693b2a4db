"""Distillation: what the distillation head learns from a teacher (paper, section 4)."""

import keras
from keras import ops

from keras_deit.utils.errors import UserError

KINDS = ("hard", "soft", "label")
REDUCTIONS = ("batch", "elements")
MEAN = "mean_with_sample_weight"  # over images: one that has no weight is not there


class Distillation:
    """What the student's distillation head learns, by what loss: mostly a frozen teacher's logits.

    The student's whole loss is ``(1 - alpha) * label loss + alpha * distillation loss``.

    - hard: cross-entropy with the teacher's decision, its largest logit, as the label; no
      smoothing.
    - soft: Kullback-Leibler divergence of the student from the teacher, both at temperature
      ``tau``, times ``tau**2``.
    - label: no teacher; cross-entropy with the label, so that both heads of a distilled model that
      is fine-tuned learn the new classes.

    The teacher sees the very images the student sees, in inference mode, without gradients. It is
    no part of the student: neither among its weights nor in its files.

    Args:
        teacher: any Keras classifier of the student's images, giving logits (batch, num_classes);
            ``keras_deit.adapt`` turns one with another normalisation, or one that gives
            probabilities, into such. None for the kind "label".
        kind: "hard", "soft" or "label".
        alpha: weight of the teacher's part, in [0, 1]. Paper: .5 hard, .1 soft.
        tau: temperature of the soft kind, above 0. Paper: 3; the published code's default: 1.
        reduction: of the soft kind. "batch" is the divergence per image, averaged over the batch,
            as in the paper's formula; "elements" divides it by the number of classes too, as the
            published ``losses.py`` does, which makes it that many times weaker.
        token: whether a distillation token learns from the teacher; False for a student without
            one, whose class head then learns from both (paper, Table 3, upper rows).
    """

    def __init__(self, teacher, kind="hard", alpha=0.5, tau=1.0, reduction="batch", token=True):
        if kind not in KINDS:
            raise UserError(f"distillation kind {kind!r}: expected one of {', '.join(KINDS)}")
        if reduction not in REDUCTIONS:
            raise UserError(f"reduction {reduction!r}: expected one of {', '.join(REDUCTIONS)}")
        if not 0 <= alpha <= 1:
            raise UserError(f"alpha {alpha}: expected a weight between 0 and 1")
        if not tau > 0:
            raise UserError(f"tau {tau}: expected a temperature above 0")
        self.teacher, self.kind, self.alpha, self.tau = teacher, kind, alpha, tau
        self.reduction, self.token = reduction, token
        self._loss = {
            "hard": HardLoss(),
            "soft": SoftLoss(tau, reduction),
            "label": keras.losses.CategoricalCrossentropy(from_logits=True, reduction=MEAN),
        }[kind]
        self._label_loss = keras.metrics.Mean(name="class_loss")
        self._teacher_loss = keras.metrics.Mean(name="distillation_loss")
        self._agreement = keras.metrics.Mean(name="agreement")

    @property
    def metrics(self):
        """``class_loss``, ``distillation_loss`` and ``agreement``: the share of images on which
        the distillation head decides as the teacher, or the label, does."""
        return [self._label_loss, self._teacher_loss, self._agreement]

    @property
    def variables(self):
        """The teacher's."""
        return [] if self.teacher is None else self.teacher.variables

    def target(self, images, labels):
        """What the distillation head is to come to, float32 (batch, num_classes): the teacher's
        logits, without a gradient, or the labels."""
        if self.kind == "label":
            if len(labels.shape) != 2:
                shape = tuple(labels.shape)
                raise UserError(f"labels {shape}: the kind label expects (batch, num_classes)")
            return ops.cast(labels, "float32")
        return ops.cast(ops.stop_gradient(self.teacher(images, training=False)), "float32")

    def distillation_loss(self, logits, target, weights=None):
        """Scalar: ``logits`` against ``target``, both (batch, num_classes); with weights (batch,),
        their weighted mean."""
        return self._loss(target, logits, sample_weight=weights)

    def loss(self, label_loss, teacher_loss):
        """Scalar: the student's whole loss, from those of its heads."""
        return (1 - self.alpha) * label_loss + self.alpha * teacher_loss

    def update_metrics(self, label_loss, teacher_loss, logits, target, weights=None):
        """Adds a batch, and its mean losses, to the running means."""
        count = images_in(logits, weights)
        self._label_loss.update_state(label_loss, sample_weight=count)
        self._teacher_loss.update_state(teacher_loss, sample_weight=count)
        agrees = ops.equal(ops.argmax(logits, axis=-1), ops.argmax(target, axis=-1))
        self._agreement.update_state(ops.cast(agrees, "float32"), sample_weight=weights)

    def check(self, student):
        """Raises UserError, before any training, when teacher and student do not fit together."""
        if getattr(student, "image_size", None) is None:  # as a convnet's
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
                "the student has a distillation head, which token=False leaves untaught: build it"
                " with distilled=False, or leave token=True"
            )
        if self.kind != "label":
            self._check_teacher(student)
        elif self.teacher is not None:
            raise UserError("kind label with a teacher: expected none, or the kind hard or soft")

    def _check_teacher(self, student):
        name = getattr(self.teacher, "name", type(self.teacher).__name__)
        size = "x".join(map(str, student.image_size))
        images = keras.KerasTensor((None, *student.image_size, 3), "float32")
        if not isinstance(self.teacher, keras.layers.Layer):
            raise UserError(f"teacher {self.teacher!r}: expected a Keras model")
        # Keras traces a functional model on images of another size or depth without a word.
        expected = getattr(self.teacher, "input_shape", None)
        if isinstance(expected, tuple) and not _fits(images.shape, expected):
            raise UserError(
                f"teacher {name} does not take the student's {size} images: it expects {expected}"
            )
        try:
            output = keras.tree.flatten(self.teacher(images, training=False))
        except Exception as error:  # whatever a user's model raises on a wrong input
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"teacher {name} does not take the student's {size} images: {reason}"
            ) from error
        if len(output) != 1 or len(output[0].shape) != 2:
            shapes = [tuple(tensor.shape) for tensor in output]
            raise UserError(
                f"teacher {name} gives {shapes}: expected one output (batch, num_classes)"
            )
        if self.kind == "soft" and _ends_in_softmax(self.teacher):
            raise UserError(
                f"teacher {name} ends in a softmax, and soft distillation needs its logits:"
                " use keras_deit.adapt(teacher, ..., probabilities=True)"
            )
        if output[0].shape[-1] != student.num_classes:
            raise UserError(
                f"teacher {name} has {output[0].shape[-1]} classes and the student"
                f" {student.num_classes}: they must be the same classes"
            )


def _fits(shape, expected):
    return len(shape) == len(expected) and all(
        side in (None, given) for given, side in zip(shape, expected, strict=True)
    )


def _ends_in_softmax(model):
    while getattr(model, "outputs", None):
        model = model.outputs[0]._keras_history.operation
    softmax = getattr(model, "activation", None) is keras.activations.softmax
    return softmax or isinstance(model, keras.layers.Softmax)


def images_in(batch, weights=None):
    """How many images there are in a batch, float32: the sum of their weights, if they have any."""
    count = ops.shape(batch)[0] if weights is None else ops.sum(weights)
    return ops.cast(count, "float32")


class HardLoss(keras.losses.Loss):
    def __init__(self):
        super().__init__(reduction=MEAN)

    def call(self, target, logits):
        return ops.sparse_categorical_crossentropy(
            ops.argmax(target, axis=-1), logits, from_logits=True
        )


class SoftLoss(keras.losses.Loss):
    def __init__(self, tau, reduction):
        super().__init__(reduction=MEAN)
        self.tau, self.per_class = tau, reduction == "elements"

    def call(self, target, logits):
        teacher, student = (ops.log_softmax(x / self.tau) for x in (target, logits))
        divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1) * self.tau**2
        return divergence / logits.shape[-1] if self.per_class else divergence
