"""A training step on PyTorch, on one device."""

import contextlib

import keras
import torch

from keras_deit.distillation.losses import contribution, image_count
from keras_deit.utils.errors import UserError
from keras_deit.utils.torch_private import allow_dots_in_names

allow_dots_in_names()  # before any model is made


class TorchTrainer:
    """The part of ``DistillationTrainer`` that is PyTorch's."""

    strategy_scope = contextlib.nullcontext
    compiles_replicas = False

    def train_step(self, data):
        """One update with the gradients of the whole batch's mean loss."""
        batch = keras.utils.unpack_x_y_sample_weight(data)
        images, _, weights = batch
        self.check_weights(weights, self.accumulate)
        batch_images = image_count(images, weights)

        if weights is not None and batch_images == 0:
            # An update would still decay the weights, and move them by their momentum.
            with torch.no_grad():
                self.forward_loss(*batch, training=False)
            return self.metric_results(training=True)

        variables = self.trainable_weights

        # PyTorch adds the gradients of the micro-batches.
        self.zero_grad()
        for images, labels, weights in self._micro_batches(batch):
            loss = self.forward_loss(images, labels, weights)
            loss = contribution(loss, images, weights, batch_images)
            if variables:  # PyTorch refuses to differentiate by nothing
                self.optimizer.scale_loss(loss).backward()

        gradients = [variable.value.grad for variable in variables]
        with torch.no_grad():
            self.optimizer.apply(gradients, variables)
        return self.metric_results(training=True)

    def test_step(self, data):
        """Adds a batch to the metrics."""
        self.forward_loss(*keras.utils.unpack_x_y_sample_weight(data), training=False)
        return self.metric_results(training=False)

    def _micro_batches(self, batch):
        """(images, labels, weights) of each of ``accumulate`` micro-batches of consecutive rows."""
        rows = len(batch[0])
        if rows % self.accumulate:
            raise UserError(self.indivisible(rows))

        size = rows // self.accumulate
        for start in range(0, rows, size):
            yield keras.tree.map_structure(
                lambda x, start=start: x if x is None else x[start : start + size], batch
            )
