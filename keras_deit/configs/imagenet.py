"""The paper's recipes for ImageNet (arXiv 2012.12877v2).

A row's fields are its difference from the defaults of ``Recipe``, which are the paper's for all
models. ``top1`` is the score to expect: the paper's, in percent, of the fused heads on the
validation images, in the table named by ``source``; None if it has none.
"""

from keras_deit.configs.recipe import Recipe


def _paper(summary, *, top1, source, **fields):
    """A ``Recipe`` whose note holds its summary, its score and its source."""
    score = "not published" if top1 is None else f"{top1}% (paper, {source})"
    return Recipe(note=f"{summary} Expected top-1: {score}.", **fields)


# Distillation of a model with only a class head (Table 3, upper rows).
HARD = {"teacher": "regnety_160", "distillation": "hard", "token": False}
SOFT = {**HARD, "distillation": "soft", "alpha": 0.1, "tau": 3.0}

# Hard distillation of a model with a distillation token, the paper's own method.
THROUGH_TOKEN = {"teacher": "regnety_160", "distillation": "hard"}

# The published code fine-tunes in evaluation mode, hence no stochastic depth. It has no
# distillation there: that of the "_distilled_384" rows is ours.
FINE_TUNED_384 = {
    "image_size": 384,
    "eval_crop": 1.0,
    "epochs": 30,
    "batch_size": 512,
    "lr": 5e-6,
    "min_lr": 5e-6,
    "weight_decay": 1e-8,
    "drop_path": 0.0,
}

TINY = {
    "deit_tiny": _paper(
        "Without a teacher.",
        top1=72.2,
        source="Table 3",
        variant="deit_tiny_patch16_224",
    ),
    "deit_tiny_soft": _paper(
        "Soft distillation of the class head.",
        top1=72.2,
        source="Table 3",
        variant="deit_tiny_patch16_224",
        **SOFT,
    ),
    "deit_tiny_hard": _paper(
        "Hard distillation of the class head.",
        top1=74.3,
        source="Table 3",
        variant="deit_tiny_patch16_224",
        **HARD,
    ),
    "deit_tiny_distilled": _paper(
        "Hard distillation through the token.",
        top1=74.5,
        source="Table 3",
        variant="deit_tiny_distilled_patch16_224",
        **THROUGH_TOKEN,
    ),
    "deit_tiny_distilled_1000": _paper(
        "Hard distillation through the token, 1000 epochs.",
        top1=76.6,
        source="Table 3",
        variant="deit_tiny_distilled_patch16_224",
        epochs=1000,
        **THROUGH_TOKEN,
    ),
    "deit_tiny_384": _paper(
        "Fine-tuned at 384 pixels.",
        top1=None,
        source=None,
        variant="deit_tiny_patch16_224",
        start="deit_tiny_patch16_224",
        **FINE_TUNED_384,
    ),
    "deit_tiny_distilled_384": _paper(
        "Fine-tuned at 384 pixels with a teacher.",
        top1=None,
        source=None,
        variant="deit_tiny_distilled_patch16_224",
        start="deit_tiny_distilled_patch16_224",
        **THROUGH_TOKEN,
        **FINE_TUNED_384,
    ),
}

SMALL = {
    "deit_small": _paper(
        "Without a teacher.",
        top1=79.8,
        source="Table 3",
        variant="deit_small_patch16_224",
    ),
    "deit_small_soft": _paper(
        "Soft distillation of the class head.",
        top1=79.8,
        source="Table 3",
        variant="deit_small_patch16_224",
        **SOFT,
    ),
    "deit_small_hard": _paper(
        "Hard distillation of the class head.",
        top1=80.9,
        source="Table 3",
        variant="deit_small_patch16_224",
        **HARD,
    ),
    "deit_small_distilled": _paper(
        "Hard distillation through the token.",
        top1=81.2,
        source="Table 3",
        variant="deit_small_distilled_patch16_224",
        **THROUGH_TOKEN,
    ),
    "deit_small_distilled_1000": _paper(
        "Hard distillation through the token, 1000 epochs.",
        top1=82.6,
        source="Table 3",
        variant="deit_small_distilled_patch16_224",
        epochs=1000,
        **THROUGH_TOKEN,
    ),
    "deit_small_384": _paper(
        "Fine-tuned at 384 pixels.",
        top1=None,
        source=None,
        variant="deit_small_patch16_224",
        start="deit_small_patch16_224",
        **FINE_TUNED_384,
    ),
    "deit_small_distilled_384": _paper(
        "Fine-tuned at 384 pixels with a teacher.",
        top1=None,
        source=None,
        variant="deit_small_distilled_patch16_224",
        start="deit_small_distilled_patch16_224",
        **THROUGH_TOKEN,
        **FINE_TUNED_384,
    ),
}

BASE = {
    "deit_base": _paper(
        "Without a teacher.",
        top1=81.8,
        source="Table 3",
        variant="deit_base_patch16_224",
    ),
    "deit_base_soft": _paper(
        "Soft distillation of the class head.",
        top1=81.8,
        source="Table 3",
        variant="deit_base_patch16_224",
        **SOFT,
    ),
    "deit_base_hard": _paper(
        "Hard distillation of the class head.",
        top1=83.0,
        source="Table 3",
        variant="deit_base_patch16_224",
        **HARD,
    ),
    "deit_base_distilled": _paper(
        "Hard distillation through the token.",
        top1=83.4,
        source="Table 3",
        variant="deit_base_distilled_patch16_224",
        **THROUGH_TOKEN,
    ),
    "deit_base_distilled_1000": _paper(
        "Hard distillation through the token, 1000 epochs.",
        top1=84.2,
        source="Table 3",
        variant="deit_base_distilled_patch16_224",
        epochs=1000,
        **THROUGH_TOKEN,
    ),
    "deit_base_384": _paper(
        "Fine-tuned at 384 pixels.",
        top1=83.1,
        source="Table 5",
        variant="deit_base_patch16_224",
        start="deit_base_patch16_224",
        **FINE_TUNED_384,
    ),
    "deit_base_distilled_384": _paper(
        "Fine-tuned at 384 pixels with a teacher, from the 300 epochs of deit_base_distilled (85.2%"
        " from 1000 epochs).",
        top1=84.5,
        source="Table 5",
        variant="deit_base_distilled_patch16_224",
        start="deit_base_distilled_patch16_224",
        **THROUGH_TOKEN,
        **FINE_TUNED_384,
    ),
}

# DeiT-B without a teacher, each with one thing changed.
ABLATION = {
    "deit_base_sgd": _paper(
        "SGD; the paper gives no learning rate and no weight decay for it, these are ours.",
        top1=74.5,
        source="Table 8",
        variant="deit_base_patch16_224",
        optimizer="sgd",
        lr=0.05,
        weight_decay=1e-4,
    ),
    "deit_base_no_rand_augment": _paper(
        "No RandAugment.",
        top1=79.6,
        source="Table 8",
        variant="deit_base_patch16_224",
        rand_augment=False,
    ),
    "deit_base_no_mixup": _paper(
        "No mixup.",
        top1=78.7,
        source="Table 8",
        variant="deit_base_patch16_224",
        mixup=0.0,
    ),
    "deit_base_no_cutmix": _paper(
        "No CutMix.",
        top1=80.0,
        source="Table 8",
        variant="deit_base_patch16_224",
        cutmix=0.0,
    ),
    "deit_base_no_mixing": _paper(
        "Neither mixup nor CutMix.",
        top1=75.8,
        source="Table 8",
        variant="deit_base_patch16_224",
        mixup=0.0,
        cutmix=0.0,
    ),
    "deit_base_no_erasing": _paper(
        "No random erasing; the paper's run diverged.",
        top1=4.3,
        source="Table 8",
        variant="deit_base_patch16_224",
        erasing=0.0,
    ),
    "deit_base_no_drop_path": _paper(
        "No stochastic depth; the paper's run diverged.",
        top1=3.4,
        source="Table 8",
        variant="deit_base_patch16_224",
        drop_path=0.0,
    ),
    "deit_base_no_repeats": _paper(
        "No repeated augmentation.",
        top1=76.5,
        source="Table 8",
        variant="deit_base_patch16_224",
        repeats=1,
    ),
    "deit_base_dropout": _paper(
        "Dropout; the paper gives no rate for it, this is ViT's (Table 9).",
        top1=81.3,
        source="Table 8",
        variant="deit_base_patch16_224",
        dropout=0.1,
    ),
    "deit_base_ema": _paper(
        "Moving average of the weights, with the decay of the published code.",
        top1=81.9,
        source="Table 8",
        variant="deit_base_patch16_224",
        ema=0.99996,
    ),
    "deit_base_384_sgd": _paper(
        "Fine-tuned at 384 pixels with SGD; the paper gives no learning rate for it, this is ours.",
        top1=83.1,
        source="Table 8",
        variant="deit_base_patch16_224",
        start="deit_base_patch16_224",
        **{**FINE_TUNED_384, "optimizer": "sgd", "lr": 0.01, "min_lr": 1e-5},
    ),
}

IMAGENET = {**TINY, **SMALL, **BASE, **ABLATION}
