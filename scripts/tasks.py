"""Prints the transfer tasks as a Markdown table: python -m scripts.tasks

A star marks a setting that the authors did not publish: it is ours.
"""

from scripts import command

MODELS = ("deit_base_patch16_224", "deit_small_patch16_224", "deit_tiny_patch16_224")
TEXT_COLUMNS = ("task", "dataset", "training split", "evaluation split", "metric", "optimizer")
NUMBER_COLUMNS = ("classes", "epochs", "batch", "lr at 512", "lr of B", "lr of S", "lr of Ti")


def main():
    from keras_deit.utils import tables
    from transfer import TASKS

    rows = [_cells(name, task) for name, task in TASKS.items()]
    print(tables.markdown((*TEXT_COLUMNS, *NUMBER_COLUMNS), rows, left=len(TEXT_COLUMNS)))


def _cells(name, task):
    from keras_deit.training.from_recipe import learning_rate
    from transfer import recipe
    from transfer.results import METRIC_TITLES

    base, small, tiny = (recipe(task, model) for model in MODELS)

    def star(field):
        return "" if field in task.published_settings else "*"

    return [
        f"`{name}`",
        task.dataset,
        task.train_split,
        task.evaluation_split,
        METRIC_TITLES[task.metric],
        base.optimizer + star("lr"),  # a rate is that of an optimizer
        f"{task.classes:,}",
        f"{base.epochs}{star('epochs')}",
        f"{base.batch_size}{star('batch_size')}",
        f"{base.lr:.3g}{star('lr')}",
        f"{learning_rate(base):.3g}{star('lr')}",
        f"{learning_rate(small):.3g}*",
        f"{learning_rate(tiny):.3g}*",
    ]


if __name__ == "__main__":
    command.run(main)
