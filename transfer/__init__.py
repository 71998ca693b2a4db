"""Transfer tasks: the data sets that the paper fine-tunes on."""

from transfer.tasks import TASKS, Task

__all__ = ["TASKS", "Task"]
