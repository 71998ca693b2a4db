"""How often classifiers decide differently (paper, Table 4)."""

import numpy as np

from keras_deit.data.pipeline import user_errors
from keras_deit.evaluation.batches import labeled_batches
from keras_deit.evaluation.scores import HEADS, predictor_for
from keras_deit.utils import tables
from keras_deit.utils.errors import UserError

LABELS = "labels"  # the name of the labels among the classifiers


def decisions(model, batches):
    """The class that each head of a model decides for, on every image, in order.

    Args:
        model: an ``ImageClassifier``, or any other Keras classifier, which has only a class head.
        batches: images and labels, as ``evaluate`` takes them, in one process.

    Returns:
        A dict of int arrays (images,): "labels", the first right class; "class"; and, of a model
        with two heads, "distillation" and "fused", the decision of their mean logits.

    Raises:
        UserError: as ``evaluate``.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> from keras_deit.evaluation.disagreement import decisions
        >>> model = kd.DeiT(16, patch_size=8, width=12, depth=1, heads=3, num_classes=5)
        >>> images = np.zeros((2, 16, 16, 3), "float32")
        >>> list(decisions(model, (images, np.array([0, 1]))))
        ['labels', 'class', 'distillation', 'fused']
    """
    predict = predictor_for(model, getattr(batches, "info", None))
    found = {}

    with user_errors(batches):
        for images, labels, _ in labeled_batches(batches):
            outputs = predict(images)
            heads = dict(zip(HEADS, outputs, strict=False))
            if len(outputs) > 1:
                heads["fused"] = sum(outputs) / len(outputs)

            first_right = labels if labels.ndim == 1 else labels.argmax(axis=-1)
            found.setdefault(LABELS, []).append(first_right)
            for head, logits in heads.items():
                found.setdefault(head, []).append(logits.argmax(axis=-1))

    if not found:
        raise UserError("no images to compare decisions on: expected at least one")
    return {name: np.concatenate(arrays) for name, arrays in found.items()}


def disagreement(classifiers):
    """The fraction of images on which each two classifiers decide differently.

    Args:
        classifiers: dict of int arrays (images,) by name: decisions on the same images.

    Returns:
        float array (classifiers, classifiers), symmetric, with a diagonal of zeros.

    Raises:
        UserError: they are of different numbers of images.

    Example:
        >>> import numpy as np
        >>> from keras_deit.evaluation.disagreement import disagreement
        >>> disagreement({"a": np.array([0, 1]), "b": np.array([0, 2])}).tolist()
        [[0.0, 0.5], [0.5, 0.0]]
    """
    sizes = {name: len(array) for name, array in classifiers.items()}
    if len(set(sizes.values())) > 1:
        raise UserError(f"decisions on {sizes} images: expected the same images for all")

    columns = np.stack(list(classifiers.values()))
    return (columns[:, None] != columns[None, :]).mean(axis=-1)


def table(classifiers):
    """The disagreement of all pairs as a Markdown table, in percent.

    Args:
        classifiers: as for ``disagreement``.

    Returns:
        A str of lines.
    """
    fractions = disagreement(classifiers)
    rows = [
        [name, *(f"{100 * fraction:.1f}" for fraction in row)]
        for name, row in zip(classifiers, fractions, strict=True)
    ]
    return tables.markdown(["decides differently", *classifiers], rows)


def by_head(of_models):
    """The classifiers of several models, as ``disagreement`` takes them.

    Args:
        of_models: dict from the name of each model to its ``decisions``, all on the same images.

    Returns:
        A dict of int arrays: "labels", the name of a model with a single head, and "<name>, <head>"
        for each head of another.
    """
    classifiers = {}
    for name, heads in of_models.items():
        classifiers.setdefault(LABELS, heads[LABELS])
        for head, decided in heads.items():
            if head != LABELS:
                classifiers[name if "fused" not in heads else f"{name}, {head}"] = decided
    return classifiers


def reading(models, classifiers):
    """What the paper reads from its table: whom a distilled student is closer to.

    Args:
        models: dict of models by name.
        classifiers: those of ``by_head``.

    Returns:
        A sentence, if there are one distilled DeiT, one DeiT with one head and one convnet; else
        None.
    """
    students = [name for name, model in models.items() if getattr(model, "distilled", False)]
    convnets = [name for name, model in models.items() if not model.has_attention]
    others = [name for name in models if name not in (*students, *convnets)]
    if not len(students) == len(convnets) == len(others) == 1:
        return None

    student, teacher, plain = f"{students[0]}, distillation", convnets[0], others[0]
    fractions = disagreement(classifiers)
    place = {name: index for index, name in enumerate(classifiers)}
    from_teacher = fractions[place[student], place[teacher]]
    from_plain = fractions[place[student], place[plain]]

    verdict = f"as close to {teacher} as to {plain}"
    if from_teacher != from_plain:
        verdict = f"closer to {teacher if from_teacher < from_plain else plain}"
    return (
        f"{student}, decides differently from {teacher} on {from_teacher:.1%} of the images, and"
        f" from {plain} on {from_plain:.1%}: it is {verdict}."
    )
