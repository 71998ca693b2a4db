"""A run's scores on its validation split."""

from keras_deit.evaluation import evaluate, predictor
from keras_deit.models.factory import float32_copy


class Validator:
    """Scores a model, and the moving average of its weights if the optimizer keeps one.

    Args:
        model: a compiled ``ImageClassifier``.
        batches: of the validation split.
        before_batch: called before each batch; it may raise, to stop the run.

    Attributes:
        copy: a float32 model of the same kind, for files; its weights are those of the last use.
    """

    def __init__(self, model, batches, before_batch):
        self.model = model
        self.batches = batches
        self.before_batch = before_batch
        self.copy = float32_copy(model)
        self._predict = predictor(model)
        self._predict_copy = predictor(self.copy)

    def scores(self):
        """``evaluate``'s scores of the model as it is."""
        return evaluate(self._predict, self.batches, before_batch=self.before_batch)

    def average_scores(self):
        """``evaluate``'s scores of the moving average; ``copy`` then has its weights."""
        self.average()
        return evaluate(self._predict_copy, self.batches, before_batch=self.before_batch)

    def row(self):
        """The columns of an epoch in ``metrics.csv``: val_accuracy, val_top5 and val_loss of the
        fused logits, the accuracy of each head, and of the moving average."""
        row = {}
        for head, scores in self.scores().items():
            if scores is None:
                continue
            if head == "fused":
                row |= {"val_accuracy": scores.top1, "val_top5": scores.top5}
                row["val_loss"] = scores.loss
            else:
                row[f"val_{head}_accuracy"] = scores.top1

        if self.model.optimizer.use_ema:
            row["val_ema_accuracy"] = self.average_scores()["fused"].top1
        return row

    def current(self):
        """``copy``, with the model's weights."""
        self.copy.set_weights(self.model.get_weights())
        return self.copy

    def average(self):
        """``copy``, with the moving average of the weights."""
        self.current()

        pairs = zip(self.model.variables, self.copy.variables, strict=True)
        copies = [copy for variable, copy in pairs if variable.trainable]
        for copy, average in zip(copies, self.model.optimizer.averages, strict=True):
            copy.assign(average)
        return self.copy
