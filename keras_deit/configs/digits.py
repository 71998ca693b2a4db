"""Recipes for handwritten digits: real images that scikit-learn ships, so that nothing is
downloaded.

A row states its difference from ``_DIGITS``. Expected scores are top-1 accuracies of the fused
heads on the 539 test images, mean and standard deviation of three seeds, as ``scripts/quickstart``
prints them.
"""

from dataclasses import replace

from keras_deit.configs.recipe import Recipe

_DIGITS = Recipe(
    note="",
    variant="deit_digits",
    dataset="digits",
    train_fraction=0.1,  # 90 of the 898 training images
    passes=36,
    batch_size=50,
    image_size=8,
    flip=0.0,  # a mirrored digit is no digit
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

DIGITS = {
    "digits_teacher": replace(
        _DIGITS,
        note="The convnet that teaches digits_soft and digits_hard. Expected top-1: 93.7 ± 1.2%.",
        variant="regnety_digits",
        passes=30,
    ),
    "digits_none": replace(
        _DIGITS,
        note="No teacher and no distillation token, only labels. Expected top-1: 75.3 ± 1.7%.",
    ),
    "digits_soft": replace(
        _DIGITS,
        note="Soft distillation through the token, with the paper's tau and lambda (section 5.2)."
        " Expected top-1: 76.7 ± 4.6%.",
        variant="deit_digits_distilled",
        teacher="digits_teacher",
        distillation="soft",
        alpha=0.1,
        tau=3.0,
    ),
    "digits_hard": replace(
        _DIGITS,
        note="Hard distillation through the token (paper, section 4). Expected top-1: 80.5 ± 0.6%.",
        variant="deit_digits_distilled",
        teacher="digits_teacher",
        distillation="hard",
    ),
    "digits_0to4": replace(
        _DIGITS,
        note="A DeiT on all 450 training images of five digits, for transfer to the other five.",
        dataset="digits/0to4",
        train_fraction=1.0,
        passes=6,
    ),
}
