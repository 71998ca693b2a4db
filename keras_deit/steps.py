"""How a DeiT trains: Keras' ``fit`` with distillation, in parts of a batch, on several replicas."""

import keras
from keras import ops

from keras_deit import replicas
from keras_deit.errors import UserError

CLIPS = ("clipnorm", "global_clipnorm", "clipvalue")


class Steps:
    """The part of a Keras model that trains it. It has ``logits(images, training)``, which gives a
    list of a tensor for each head, and is called for their mean."""

    def compile(self, *args, distillation=None, accumulate=1, **kwargs):
        """Keras' ``compile``, and

        distillation: a ``Distillation``, or None to train the fused logits on the labels.
        accumulate: into how many parts a step divides its batch, one after another, for the memory
            of one part; the gradients are those of the whole batch.

        Raises UserError when teacher and student do not fit together.
        """
        if distillation is not None:
            distillation.check(self)
        _check_backend(distillation, accumulate)
        self.distillation, self.accumulate = distillation, accumulate
        super().compile(*args, **kwargs)
        clips = any(getattr(self.optimizer, name, None) for name in CLIPS)
        if replicas.count() > 1 and clips and not hasattr(type(self.optimizer), "averages"):
            raise UserError(
                "Keras' optimizers clip the gradients of each replica before they are summed:"
                " expected one of keras_deit.optimizer, or no clipping"
            )
        if self.optimizer and not self.optimizer.built:  # not in the first step, traced twice then
            self.optimizer.build(self.trainable_variables)

    @property
    def metrics(self):
        own = self.distillation.metrics if self.distillation else []
        return super().metrics + own

    def train_step(self, *args):
        """One update. With a ``Distillation`` the class head learns the labels and the
        distillation head the teacher, on the same images (paper, section 4)."""
        plain = self.distillation is None and self.accumulate == replicas.count() == 1
        if plain or keras.backend.backend() != "tensorflow":
            return super().train_step(*args)
        import tensorflow as tf

        batch = tuple(x for x in keras.utils.unpack_x_y_sample_weight(*args) if x is not None)
        count = self.accumulate
        if count == 1:
            gradients = self._gradients(*batch)
        else:
            parts = [tf.reshape(x, (count, x.shape[0] // count, *x.shape[1:])) for x in batch]

            def add(part, sums):
                gradients = self._gradients(*(x[part] for x in parts))
                sums = [x + y / count for x, y in zip(sums, gradients, strict=True)]
                return part + 1, sums

            zeros = [tf.zeros_like(variable) for variable in self.trainable_weights]
            _, gradients = tf.while_loop(lambda part, _: part < count, add, (0, zeros))
        self.optimizer.apply(gradients, self.trainable_weights)
        return self.get_metrics_result()

    @property
    def non_trainable_variables(self):
        """On JAX with the teacher's among them: what a compiled step is given and not built of."""
        own = super().non_trainable_variables
        if self.distillation is None or keras.backend.backend() != "jax":
            return own
        return own + self.distillation.teacher.variables

    def compute_loss_and_updates(
        self,
        trainable_variables,
        non_trainable_variables,
        metrics_variables,
        x,
        y,
        sample_weight,
        training=False,
        optimizer_variables=None,
    ):
        """Keras' step on JAX, for its gradient: the loss, and (loss, fused logits, the other
        variables, those of the metrics)."""
        if self.distillation is None or not training:
            return super().compute_loss_and_updates(
                trainable_variables,
                non_trainable_variables,
                metrics_variables,
                x,
                y,
                sample_weight,
                training=training,
                optimizer_variables=optimizer_variables,
            )
        others, metrics = self.non_trainable_variables, self.metrics_variables
        mapping = [*zip(self.trainable_variables, trainable_variables, strict=True)]
        mapping += zip(others, non_trainable_variables, strict=True)
        mapping += zip(metrics, metrics_variables, strict=True)
        with keras.StatelessScope(state_mapping=mapping) as scope:
            loss, logits = self._distilled_loss(x, y, sample_weight)
        others, metrics = (
            [scope.get_current_value(variable) for variable in variables]
            for variables in (others, metrics)
        )
        return loss, (loss, fuse(logits), others, metrics)

    def _gradients(self, images, labels, weights=None):
        """Those of the loss on some images, which are also added to the metrics. Under a strategy
        Keras divides a loss by the number of replicas, and their gradients are summed."""
        import tensorflow as tf

        with tf.GradientTape() as tape:
            if self.distillation:
                loss, logits = self._distilled_loss(images, labels, weights)
            else:
                logits = self.logits(images, training=True)
                loss = self.compute_loss(images, labels, fuse(logits), weights, training=True)
            scaled = self.optimizer.scale_loss(loss * replicas.share(images))
        whole = loss * replicas.count()
        self._loss_tracker.update_state(whole, sample_weight=ops.shape(images)[0])
        self.compute_metrics(images, labels, fuse(logits), weights)
        return tape.gradient(scaled, self.trainable_weights)

    def _distilled_loss(self, images, labels, weights):
        """The loss on the labels and the teacher, added to the distillation's metrics, and the
        logits of each head."""
        distillation = self.distillation
        target = distillation.target(images)
        logits = self.logits(images, training=True)
        label_loss = self.compute_loss(images, labels, logits[0], weights, training=True)
        loss = distillation.loss(label_loss, logits[-1], target, weights)
        distillation.update_metrics(label_loss, logits[-1], target, weights)
        return loss, logits

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Keras looks at a batch whether or not anything is left to build, and at the mean of the
        replicas' parts, which may be of different sizes: at the first one's, here."""
        if self._compile_metrics is None or self._compile_metrics.built:
            return
        if iterator is not None and self._distribute_strategy is not None:
            _, _, batches = next(iter(iterator))
            local = self.distribute_strategy.experimental_local_results
            data_batch = keras.tree.map_structure(lambda x: local(x)[0], next(batches))
        super()._maybe_symbolic_build(data_batch=data_batch)

    def test_step(self, *args):
        """Keras' own, without the distillation's metrics, which belong to training."""
        if self.distillation is None:
            return super().test_step(*args)
        own = {metric.name for metric in self.distillation.metrics}
        return {name: x for name, x in super().test_step(*args).items() if name not in own}


def fuse(logits):
    """The heads' prediction: the mean of their logits."""
    return sum(logits) / len(logits)


def _check_backend(distillation, accumulate):
    backend = keras.backend.backend()
    what = "accumulation" if accumulate > 1 and backend != "tensorflow" else None
    if distillation is not None and backend not in ("tensorflow", "jax"):
        what = "distillation"
    if what:
        raise UserError(
            f"{what} does not train on the {backend} backend: set KERAS_BACKEND=tensorflow"
        )
