"""Probes: a linear classifier and nearest neighbors on a model's frozen features."""

import dataclasses
import json
import pathlib
import warnings

import numpy as np

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.data.reading import UnreadableImages, read_images
from keras_deit.data.seeding import SUBSET, generator
from keras_deit.data.transforms import evaluation_view
from keras_deit.distribution import Strategy
from keras_deit.evaluation.inference import predictor
from keras_deit.training import from_recipe
from keras_deit.training.data_identity import check_classes
from keras_deit.utils import logs
from keras_deit.utils.files import atomic_write_json
from keras_deit.utils.paths import expand_home
from keras_deit.utils.progress import progress_bar
from transfer.finetuning import check_start_file, prepare, recipe
from transfer.tasks import find

METHODS = ("linear", "neighbors")
STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # inverse regularization of the linear classifier, sklearn's C
NEIGHBORS = 10
HELD_OUT = 0.2  # of the training images, to choose a strength on
BATCH = 64


def probe(model, task, workdir, overrides=(), data_dir=None, quiet=False):
    """Scores a model's frozen features on a task.

    The features are what the heads see of the middle of each image: the class token, joined by the
    distillation token of a distilled model, or a convnet's pooled features. The linear classifier
    is a logistic regression on standardized features, with the strength in ``STRENGTHS`` that is
    best on a fifth of the training images. ``NEIGHBORS`` nearest training images vote, weighted by
    their cosine distance.

    Args:
        model: str or path. A published name, or a file.
        task: a ``Task``, or its name.
        workdir: str or path. A folder for only this probe. It keeps the scores, as ``probe.json``,
            and the same call reads them there.
        overrides: list of str. As for ``finetune``; "image_size", "eval_crop", "train_fraction",
            "subset" and "seed" have an effect. Default none.
        data_dir: str or path. Where TFDS keeps its datasets. Default None, TFDS' own folder.
        quiet: bool. Whether to print nothing. Default False.

    Returns:
        A dict, by ``METHODS``, of dicts with "top1" and "per_class": accuracies in [0, 1].

    Raises:
        UserError: as ``finetune``.

    Example:
        >>> import tempfile
        >>> import keras_deit as kd
        >>> from transfer.probe import probe
        >>> folder = tempfile.mkdtemp()
        >>> kd.DeiT(8, 4, width=12, depth=1, heads=2, num_classes=3).save(f"{folder}/a.keras")
        >>> few = ["train_fraction=0.02"]
        >>> scores = probe(f"{folder}/a.keras", "digits_5to9", folder, few, folder, quiet=True)
        >>> scores.keys()
        dict_keys(['linear', 'neighbors'])
    """
    task = find(task) if isinstance(task, str) else task

    workdir = expand_home(workdir)
    with logs.quiet(quiet):
        return probe_recipe(recipe(task, model, overrides), workdir, data_dir)


def probe_recipe(task_recipe, workdir, data_dir=None):
    """``probe`` with a recipe that ``finetuning.recipe`` made. Returns the scores."""
    Strategy(task_recipe.strategy)  # first: it meets the other processes and makes the devices
    check_start_file(task_recipe.start, workdir)

    # Scores are kept with their recipe, as JSON gives it back: tuples as lists.
    path = pathlib.Path(workdir) / "probe.json"
    fields = json.loads(json.dumps(dataclasses.asdict(task_recipe)))
    if path.exists():
        earlier = json.loads(path.read_text())
        if earlier["recipe"] != fields:
            raise kd.UserError(
                f"{path} was written with a different recipe: choose another workdir"
            )
        return earlier["scores"]

    prepare(task_recipe, workdir, data_dir)
    if task_recipe.start is None:
        raise kd.UserError(
            f"{task_recipe.variant} has no published weights: expected a model to probe"
        )

    scores = _score(task_recipe, data_dir)
    atomic_write_json(path, {"recipe": fields, "scores": scores})
    return scores


def _score(task_recipe, data_dir):
    """Both methods' scores on the recipe's data."""
    training, testing = (
        datasets.load(task_recipe.dataset, split, data_dir, task_recipe.upright)
        for split in (task_recipe.train_split, task_recipe.validation_split)
    )
    check_classes(training, testing, task_recipe)

    # The images that a fine-tuning by this recipe would train on.
    rng = generator(task_recipe.subset, 0, SUBSET)
    training_rows = training.subset_indices(task_recipe.train_fraction, rng)

    # As for fine-tuning: the file's heads may be of another number of classes.
    model = kd.load(
        task_recipe.start,
        task_recipe.variant,
        num_classes=training.num_classes,
        new_heads=True,
        image_size=task_recipe.image_size,
    )
    features_of = _feature_function(model)
    features, labels = _embed(features_of, training, training_rows, task_recipe)
    test_features, test_labels = _embed(features_of, testing, np.arange(len(testing)), task_recipe)

    classifiers = _fit(features, labels, task_recipe.seed)
    return {
        method: _accuracies(classifier.predict(test_features), test_labels)
        for method, classifier in zip(METHODS, classifiers, strict=True)
    }


def _feature_function(model):
    """A compiled function from images to a list of one array of features, (images, width)."""
    return predictor(model, lambda images: [model.head_features(images)])


def _embed(features_of, dataset, rows, task_recipe):
    """The features and labels of a dataset's images, skipping unreadable ones.

    Returns:
        float32 (images, features) and int (images,) arrays.
    """
    size = (task_recipe.image_size, task_recipe.image_size)
    preprocessing = from_recipe.preprocessing(task_recipe)

    def read(row):
        image, label = dataset[row]
        return evaluation_view(image, size, task_recipe.eval_crop, preprocessing), label

    features = []
    labels = []
    views = []
    unreadable = UnreadableImages(dataset.split, task_recipe.max_damaged)
    bar = progress_bar(len(rows), "image")

    def embed_batch():
        if views:
            features.append(features_of(np.stack(views))[0])
            views.clear()

    for row, pair, reason in read_images(read, rows.tolist()):
        if reason is not None:
            unreadable.add(row, reason)
        else:
            views.append(pair[0])
            labels.append(pair[1])
        if len(views) == BATCH:
            embed_batch()
        bar.add(1)
    embed_batch()

    if not features:
        raise kd.UserError(f"no readable image in {dataset.name}, {dataset.split}")
    return np.concatenate(features), np.array(labels)


def _fit(features, labels, seed):
    """The fitted classifiers, in the order of ``METHODS``."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neighbors import KNeighborsClassifier

    count = min(NEIGHBORS, len(labels))
    neighbors = KNeighborsClassifier(count, weights="distance", metric="cosine")

    # A classifier that has not converged is scored as it is, and is rarely the best.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        linear = _linear(_best_strength(features, labels, seed))
        return linear.fit(features, labels), neighbors.fit(features, labels)


def _best_strength(features, labels, seed):
    """The strength in ``STRENGTHS`` whose classifier is best on held-out training images; 1.0 if
    there are too few images to hold any out of each class."""
    from sklearn.model_selection import train_test_split

    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2 or round(HELD_OUT * len(labels)) < len(classes):
        return 1.0

    train_features, held_features, train_labels, held_labels = train_test_split(
        features, labels, test_size=HELD_OUT, stratify=labels, random_state=seed
    )
    scores = [
        _linear(strength).fit(train_features, train_labels).score(held_features, held_labels)
        for strength in STRENGTHS
    ]
    return STRENGTHS[int(np.argmax(scores))]


def _linear(strength):
    """An unfitted linear classifier."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def _accuracies(predictions, labels):
    """Top-1 of the images, and its mean over classes."""
    correct = predictions == labels
    of_classes = [correct[labels == label].mean() for label in np.unique(labels)]
    return {"top1": float(correct.mean()), "per_class": float(np.mean(of_classes))}
