"""Experiments as data: one frozen row each, stating only its difference from its base row.

Every row is run by ``python -m scripts.train --recipe=<name> --workdir=<folder>``, with
``--set=field=value`` for a field of it. Scores in the notes are the paper's (arXiv 2012.12877v2),
top-1 in percent on ImageNet, in the tables named.
"""

import dataclasses

from keras_deit.configs.recipe import Recipe

TEACHER = "regnety_160"


COMMAND = "python -m scripts.train --recipe={0} --data_dir=DATA --workdir=runs/{0}"


def _rows(base, rows):
    """``base`` with each row's note, the command that runs it, and what it changes."""
    return {
        name: dataclasses.replace(base, note=f"{note} {COMMAND.format(name)}", **new)
        for name, (note, new) in rows.items()
    }


def _paper(size, scores):
    """The rows of one size of model. ``scores``: no teacher; soft and hard without a token; hard
    through the token, and that after 1000 epochs; 384 pixels without and with a teacher."""
    none, soft, hard, token, longer, large, large_distilled = scores
    plain, distilled = f"deit_{size}_patch16_224", f"deit_{size}_distilled_patch16_224"
    taught = {"teacher": TEACHER, "distillation": "hard"}
    without = {**taught, "token": False}
    softly = {"distillation": "soft", "alpha": 0.1, "tau": 3.0}
    through = {**taught, "variant": distilled}
    # The published code fine-tunes in evaluation mode, and has no distillation there: that is ours.
    tuned = {"start": plain, "image_size": 384, "epochs": 30, "batch_size": 512, "lr": 5e-6}
    tuned |= {"min_lr": 5e-6, "weight_decay": 1e-8, "mode": "evaluation", "eval_crop": 1.0}
    base = Recipe(note="", variant=plain)
    return _rows(
        base,
        {
            f"deit_{size}": (f"No teacher: {none} (Table 3).", {}),
            f"deit_{size}_soft": (
                f"Soft distillation of the class head: {soft} (Table 3).",
                {**without, **softly},
            ),
            f"deit_{size}_hard": (
                f"Hard distillation of the class head: {hard} (Table 3).",
                without,
            ),
            f"deit_{size}_distilled": (
                f"Hard distillation through the token: {token} (Table 3).",
                through,
            ),
            f"deit_{size}_distilled_1000": (
                f"Hard distillation through the token, 1000 epochs: {longer} (Table 3).",
                {**through, "epochs": 1000},
            ),
            f"deit_{size}_384": (f"Fine-tuned at 384 pixels: {large}.", tuned),
            f"deit_{size}_distilled_384": (
                f"Fine-tuned at 384 pixels with a teacher: {large_distilled}.",
                {**through, **tuned, "start": distilled},
            ),
        },
    )


_UNPUBLISHED = "not published for this size"
_TABLE_5 = "83.1 (Table 5)"
_DISTILLED_384 = "84.5 from 300 epochs, 85.2 from 1000 (Table 5)"

# Table 8: DeiT-B without a teacher, each with one thing changed.
_ABLATION = {
    "deit_base_sgd": (
        "SGD: 74.5 (Table 8); its rates are not published, these are ours.",
        {"optimizer": "sgd", "lr": 0.05, "weight_decay": 1e-4},
    ),
    "deit_base_no_rand_augment": ("No RandAugment: 79.6 (Table 8).", {"rand_augment": False}),
    "deit_base_no_mixup": ("No mixup: 78.7 (Table 8).", {"mixup": 0.0}),
    "deit_base_no_cutmix": ("No CutMix: 80.0 (Table 8).", {"cutmix": 0.0}),
    "deit_base_no_mixing": (
        "Neither mixup nor CutMix: 75.8 (Table 8).",
        {"mixup": 0.0, "cutmix": 0.0},
    ),
    "deit_base_no_erasing": ("No random erasing: 4.3, diverged (Table 8).", {"erasing": 0.0}),
    "deit_base_no_drop_path": ("No stochastic depth: 3.4, diverged (Table 8).", {"drop_path": 0.0}),
    "deit_base_no_repeats": ("No repeated augmentation: 76.5 (Table 8).", {"repeats": 1}),
    "deit_base_dropout": (
        "Dropout: 81.3 (Table 8); its rate there is not published, this is ViT's (Table 9).",
        {"dropout": 0.1},
    ),
    "deit_base_ema": (
        "Moving average of the weights: 81.9 (Table 8); decay of the published code.",
        {"ema": 0.99996},
    ),
}


_DIGITS = Recipe(
    note="DeiT on a tenth of the 898 training digits that scikit-learn ships: 90 images.",
    variant="deit_digits",
    dataset="digits",
    train_fraction=0.1,
    passes=36,
    batch_size=50,
    image_size=8,
    flip=0.0,  # a mirrored digit is none
    rand_augment=False,
    erasing=0.0,
    repeats=1,
    mix_group=0,
    eval_crop=1.0,
    epochs=20,
    lr=0.04,
    warmup_epochs=3,
    drop_path=0.0,
)

_PRETRAINING = {
    "digits_0to4": (
        "A DeiT on all 449 training images of five digits, for transfer to the other five.",
        {"dataset": "digits/0to4", "train_fraction": 1.0, "passes": 6},
    ),
}

_METHODS = {
    "digits_teacher": (
        "The convnet that teaches the other digits rows.",
        {"variant": "regnety_digits", "passes": 30},
    ),
    "digits_none": ("No teacher: labels alone, no distillation token.", {}),
    "digits_soft": (
        "Soft distillation through the token, with the paper's tau and lambda (section 5.2).",
        {
            "variant": "deit_digits_distilled",
            "teacher": "digits_teacher",
            "distillation": "soft",
            "alpha": 0.1,
            "tau": 3.0,
        },
    ),
    "digits_hard": (
        "Hard distillation through the token (paper, section 4).",
        {
            "variant": "deit_digits_distilled",
            "teacher": "digits_teacher",
            "distillation": "hard",
        },
    ),
}

RECIPES = {
    **_rows(_DIGITS, {**_METHODS, **_PRETRAINING}),
    **_paper("tiny", (72.2, 72.2, 74.3, 74.5, 76.6, _UNPUBLISHED, _UNPUBLISHED)),
    **_paper("small", (79.8, 79.8, 80.9, 81.2, 82.6, _UNPUBLISHED, _UNPUBLISHED)),
    **_paper("base", (81.8, 81.8, 83.0, 83.4, 84.2, _TABLE_5, _DISTILLED_384)),
}
RECIPES |= _rows(RECIPES["deit_base"], _ABLATION)
RECIPES |= _rows(
    RECIPES["deit_base_384"],
    {
        "deit_base_384_sgd": (
            "Fine-tuned at 384 pixels with SGD: 83.1 (Table 8); the rate is ours.",
            {"optimizer": "sgd", "lr": 0.01, "min_lr": 1e-5},
        )
    },
)
