"""Transfer: fine-tuning on the paper's datasets, on others, and on a user's own images."""

from transfer.finetuning import finetune, recipe
from transfer.tasks import TASKS, Task

__all__ = ["TASKS", "Task", "finetune", "recipe"]
