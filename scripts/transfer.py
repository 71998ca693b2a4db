"""Fine-tunes on a task: python -m scripts.transfer --task=cifar10 --model=<name or file>"""

from absl import flags

from scripts import command  # before TensorFlow

from transfer.sweep import sweep  # isort: skip
from transfer.tasks import PAPER

TASK = flags.DEFINE_multi_string(
    "task",
    None,
    "A row of python -m scripts.tasks, folder:<path> for your own images, or paper: its six;"
    " repeatable.",
    required=True,
)
MODEL = flags.DEFINE_multi_string(
    "model", None, "A published name or a file; repeatable.", required=True
)
WORKDIR = flags.DEFINE_string("workdir", "runs/transfer", "Folder for all runs and their results.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.")
SEEDS = flags.DEFINE_integer("seeds", 1, "How often to repeat it all.", lower_bound=1)
PROBE = flags.DEFINE_bool(
    "probe", False, "Linear probe and nearest neighbours on frozen features, without training."
)
SET = flags.DEFINE_multi_string("set", [], "field=value: a field of the recipe; repeatable.")


def main():
    tasks = [row for name in TASK.value for row in (PAPER if name == "paper" else [name])]
    sweep(
        list(dict.fromkeys(tasks)),
        list(dict.fromkeys(MODEL.value)),
        WORKDIR.value,
        SET.value,
        SEEDS.value,
        PROBE.value,
        DATA_DIR.value,
    )


if __name__ == "__main__":
    command.run(main)
