"""Fine-tunes on a task: python -m scripts.transfer --task=cifar10 --model=<name or file>"""

from absl import flags

from scripts import command

TASK = flags.DEFINE_multi_string(
    "task",
    None,
    "A task that python -m scripts.tasks lists; folder:<path>, your own images; or paper, the six"
    " tasks of the paper. Repeatable.",
    required=True,
)
MODEL = flags.DEFINE_multi_string(
    "model", None, "A published name or a file; repeatable.", required=True
)
WORKDIR = flags.DEFINE_string("workdir", "runs/transfer", "Folder of all runs and their results.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS' datasets.")
SEEDS = flags.DEFINE_integer(
    "seeds", 1, "Number of seeds to repeat each run with, from --set=seed=0 on.", 1
)
PROBE = flags.DEFINE_bool(
    "probe", False, "Score a linear probe and nearest neighbors on frozen features; no training."
)
LABEL = flags.DEFINE_bool(
    "label", False, "Let the teacher label each task's images once for all seeds and students."
)
SET = flags.DEFINE_multi_string("set", [], "field=value: a field of all recipes; repeatable.")


def main():
    from transfer.sweep import sweep
    from transfer.tasks import PAPER

    tasks = []
    for name in TASK.value:
        tasks.extend(PAPER if name == "paper" else [name])

    sweep(
        tasks,
        MODEL.value,
        WORKDIR.value,
        overrides=SET.value,
        seeds=SEEDS.value,
        probing=PROBE.value,
        data_dir=DATA_DIR.value,
        label=LABEL.value,
    )


if __name__ == "__main__":
    command.run(main)
