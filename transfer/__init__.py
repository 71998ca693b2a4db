"""Transfer: models fine-tuned on the data sets of the paper, on others, and on one's own images."""

from transfer.finetuning import finetune, recipe
from transfer.tasks import TASKS, Task

__all__ = ["TASKS", "Task", "finetune", "recipe"]
