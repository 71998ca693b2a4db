"""Prints the transfer tasks as a Markdown table: python -m scripts.tasks"""

from scripts import command  # before TensorFlow

from keras_deit.training.optimization import learning_rate  # isort: skip
from transfer import TASKS, recipe
from transfer.results import METRICS

SIZES = [f"deit_{size}_patch16_224" for size in ("base", "small", "tiny")]
HEAD = "task | data set | classes | training | scored on | metric | optimizer | epochs | batch"
HEAD += " | rate at 512 | scaled, B | S | Ti"


def main():
    print(f"| {HEAD} |\n|{' --- |' * 2} ---: |{' --- |' * 4}{' ---: |' * 6}")
    for name, task in TASKS.items():
        base, *_ = rows = [recipe(task, model) for model in SIZES]
        stars = {field: "*" * (field not in task.said) for field in ("lr", "epochs", "batch_size")}
        rates = [learning_rate(row) for row in rows]
        cells = [f"`{name}`", task.dataset, f"{task.classes:,}", task.train, task.evaluation]
        cells += [METRICS[task.metric], base.optimizer + stars["lr"]]
        cells += [f"{base.epochs}{stars['epochs']}", f"{base.batch_size}{stars['batch_size']}"]
        cells += [f"{base.lr:.3g}{stars['lr']}", f"{rates[0]:.3g}{stars['lr']}"]
        print(f"| {' | '.join([*cells, *(f'{rate:.3g}*' for rate in rates[1:])])} |")


if __name__ == "__main__":
    command.run(main)
