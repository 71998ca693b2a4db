"""What frozen features are good for: a linear classifier and nearest neighbours on them."""

import dataclasses
import json
import pathlib
import warnings
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.data.reading import too_many_unreadable
from keras_deit.data.seeding import SUBSET, generator
from keras_deit.data.transforms import evaluation_view
from keras_deit.evaluation.inference import predictor
from keras_deit.training.run import check_classes
from keras_deit.utils.files import atomic_write_json
from transfer.finetuning import prepare, recipe, same_file

METHODS = ("linear", "neighbours")
STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # of the linear classifier, sklearn's C
NEIGHBOURS = 10
BATCH = 64


def probe(model, task, workdir, overrides=(), data_dir=None, quiet=False):
    """Scores a model's features, as they are, on a task.

    The features are those that the heads see, of the middle of each image: the class token, with
    the distillation token beside it where there is one. The linear classifier is a logistic
    regression on standardised features, of the strength in ``STRENGTHS`` that is best on a fifth of
    the training images; the neighbours vote by their cosine distance.

    Args:
        model: a published name, or a file.
        task: a ``Task``.
        workdir: a folder; the scores are kept there, as ``probe.json``, and not computed again.
        overrides: as for ``finetune``: of use are "image_size", "eval_crop", "train_fraction",
            "subset" and "seed".
        data_dir: where TFDS keeps its data sets.
        quiet: whether to show no progress.

    Returns:
        A dict, by ``METHODS``, of dicts with "top1" and "per_class": fractions.

    Raises:
        UserError: as ``finetune`` does.
    """
    row = recipe(task, model, overrides)
    same_file(row.start, workdir)
    path = pathlib.Path(workdir) / "probe.json"
    fields = json.loads(json.dumps(dataclasses.asdict(row)))
    if path.exists():
        kept = json.loads(path.read_text())
        if kept["recipe"] != fields:
            raise kd.UserError(f"{path} belongs to another recipe: use another workdir")
        return kept["scores"]
    prepare(row, workdir, data_dir, quiet)
    model = kd.load(row.start, row.variant, image_size=row.image_size) if row.start else None
    if model is None:
        raise kd.UserError(f"{row.variant} has no published weights: expected a model to probe")
    training = datasets.load(row.dataset, row.train_split, data_dir)
    testing = datasets.load(row.dataset, row.validation_split, data_dir)
    check_classes(training, testing, row)
    chosen = training.subset_indices(row.train_fraction, generator(row.subset, 0, SUBSET))
    features = _features(model)
    known = _seen(features, training, chosen, row, quiet)
    asked = _seen(features, testing, np.arange(len(testing)), row, quiet)
    scores = {
        name: _scores(fitted.predict(asked[0]), asked[1])
        for name, fitted in zip(METHODS, _fitted(*known, row.seed), strict=True)
    }
    atomic_write_json(path, {"recipe": fields, "scores": scores})
    return scores


def _features(model):
    """A function from images to features, (images, width) or, of two tokens, (images, 2 width)."""

    def tokens(images):
        found = model.features(images)
        if isinstance(model, kd.DeiT):
            heads = 1 + model.distilled
            found = keras.ops.reshape(found[:, :heads], (-1, heads * model.width))
        return [keras.ops.cast(found, "float32")]

    return predictor(model, tokens)


def _seen(features, dataset, indices, row, quiet):
    """The features and labels of a data set's images; those that cannot be read are left out."""
    size, found, labels, damaged = (row.image_size,) * 2, [], [], []

    def view(index):
        try:
            image, label = dataset[index]
        except kd.errors.Unreadable as error:
            return None, str(error)
        return evaluation_view(image, size, row.eval_crop), label

    bar = keras.utils.Progbar(len(indices), unit_name="image", verbose=0 if quiet else 1)
    with ThreadPoolExecutor() as pool:
        for at in range(0, len(indices), BATCH):
            rows = list(pool.map(view, indices[at : at + BATCH].tolist()))
            damaged += [reason for image, reason in rows if image is None]
            rows = [pair for pair in rows if pair[0] is not None]
            if rows:
                found.append(features(np.stack([image for image, _ in rows]))[0])
                labels += [label for _, label in rows]
            bar.update(min(at + BATCH, len(indices)))
    if len(damaged) > row.max_damaged:
        raise too_many_unreadable(len(damaged), damaged[-1], row.max_damaged)
    for reason in damaged:
        warnings.warn(f"{reason}: left out", stacklevel=2)
    return np.concatenate(found), np.array(labels)


def _fitted(features, labels, seed):
    """The fitted classifiers, in the order of ``METHODS``."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def linear(strength):
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))

    neighbours = KNeighborsClassifier(
        min(NEIGHBOURS, len(labels)), weights="distance", metric="cosine"
    )
    classes, counts = np.unique(labels, return_counts=True)
    best = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if counts.min() > 1 and round(0.2 * len(labels)) >= len(classes):
            parts = train_test_split(
                features, labels, test_size=0.2, stratify=labels, random_state=seed
            )
            held = [linear(c).fit(parts[0], parts[2]).score(parts[1], parts[3]) for c in STRENGTHS]
            best = STRENGTHS[int(np.argmax(held))]
        return linear(best).fit(features, labels), neighbours.fit(features, labels)


def _scores(found, labels):
    right = found == labels
    of_class = [right[labels == label].mean() for label in np.unique(labels)]
    return {"top1": float(right.mean()), "per_class": float(np.mean(of_class))}
