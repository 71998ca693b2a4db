"""From a name or a file to a model: strict, at any resolution."""

from keras_deit.configs import variants
from keras_deit.configs.variants import VARIANTS
from keras_deit.utils import logs
from keras_deit.utils.errors import UserError
from keras_deit.weights import formats, keras_files
from keras_deit.weights.assigning import assign
from keras_deit.weights.descriptions import (
    describe,
    of_imagenet,
    of_variant,
    one_line_errors,
    read_content,
    undescribed,
)
from keras_deit.weights.hub import download
from keras_deit.weights.identify import what_it_is
from keras_deit.weights.names import CLASS_HEAD
from keras_deit.weights.sources import local_file, official_variant, verify_official


def load(
    source,
    variant=None,
    *,
    new_heads=False,
    change_tokens=False,
    grid=None,
    cache_dir=None,
    **overrides,
):
    """The model of a published name or of a file.

    Loading is strict: every parameter of the file is used once and every variable of the model is
    assigned. The position embedding of another resolution is resampled as in the official code.

    Args:
        source: str or path. A published name (a row of ``VARIANTS``), downloaded once from the
            Hugging Face hub; or a file of any name: safetensors or a PyTorch ``.pth`` in timm's
            (and the official) or transformers' names, ``.keras`` or ``.weights.h5``; or a folder
            with ``model.safetensors`` in it, or its shards and their index. A ``.pth`` needs
            PyTorch.
        variant: str or None. The row of ``VARIANTS`` that a file's weights belong to, needed if
            neither the file says so (``.keras``, ``save_pretrained``, an official file under its
            own name) nor the configuration of timm or transformers beside it. The number of
            classes is the file's, not the row's. Default None.
        new_heads: bool. Initializes the heads anew, for the same number of classes too; the file
            needs none. Default False.
        change_tokens: bool. Allows distilled weights in a model without a distillation token, which
            then has only the class head, and the reverse, which initializes that token and its
            head. Default False.
        grid: (rows, columns) of the patches that a file's positions belong to, if neither the file
            nor the row says so and they are in no square. Default None.
        cache_dir: str or path. The folder for downloads; None is the hub library's own.
        **overrides: any field of the row: ``image_size``, ``drop_path``, ``num_classes`` ... With
            another number of classes than the file's, the heads are initialized anew and printed.
            ``class_names`` and ``preprocessing`` replace the file's, which are its own, those of
            the configuration beside it, or ImageNet's.

    Returns:
        An ``ImageClassifier``; of a ``.keras`` file, whatever Keras model is in it.

    Raises:
        UserError: the file is missing, corrupt or unsafe, or does not fit: names every parameter
            that is missing, unexpected or of another shape.

    Example:
        >>> import keras_deit as kd
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kd.build("deit_digits").save(f"{folder}/digits.keras")
        ...     model = kd.load(f"{folder}/digits.keras")
        ...     larger = kd.load(f"{folder}/digits.keras", image_size=(16, 24))
        >>> model.image_size, larger.image_size
        ((8, 8), (16, 24))
    """
    path, variant, published = _locate(str(source), variant, cache_dir)
    with one_line_errors(path):
        content = read_content(path, variant, overrides)
        weights = _read(path, content.own, variant)
        if weights.model is not None and variant is None and not (overrides or new_heads):
            return weights.model

        target = of_variant(variant, content.facts) if variant else content.own
        target = target or undescribed(path, content)
        if published:
            target = of_imagenet(target)
        elif not {"preprocessing"} & {*content.facts, *overrides}:
            logs.info(
                f"{path} does not say how images are normalized: taken to be by ImageNet's mean and"
                " standard deviation, as for DeiT; if not, give preprocessing="
            )

        model = _new_model(path, target, overrides)
        fresh = assign(
            path,
            model,
            weights.tensors,
            other_heads="num_classes" in overrides,
            new_heads=new_heads,
            change_tokens=change_tokens,
            grid=grid or (content.own or target).grid,
            hint=what_it_is(content.shapes),
        )

        # New heads have their own classes.
        new_head = any(name.startswith(CLASS_HEAD) for name in fresh)
        if not new_head and "class_names" not in overrides:
            model.class_names = target.fields["class_names"]
    if fresh:
        logs.info(f"{path}: newly initialized: {', '.join(sorted(fresh))}")
    return model


def has_distillation_token(source, variant=None):
    """Whether weights have a distillation token, which ``change_tokens`` adds or drops.

    Args:
        source, variant: as for ``load``.

    Raises:
        UserError: as for ``load``, and for a model without tokens.
    """
    fields = describe(source, variant).fields
    if "distilled" not in fields:
        raise UserError(f"{source} has no tokens to change: expected a DeiT")
    if str(source) in VARIANTS:
        return of_variant(str(source)).fields["distilled"]

    path = local_file(source)
    with one_line_errors(path):
        content = read_content(path, variant)
        return content.own.fields["distilled"] if content.own else "dist_token" in content.shapes


def _locate(source, variant, cache_dir):
    """The path of a source's weights, the row of ``VARIANTS`` that they belong to, if known, and
    whether they are the published ones."""
    if variant is not None:
        variants.find(variant)  # before a download

    if source in VARIANTS:
        if VARIANTS[source].published is None:
            raise UserError(f"{source} has no published weights: build it, or give a file")
        return download(source, cache_dir), variant or source, True

    path = local_file(source)
    official = official_variant(path)
    if official:
        verify_official(path, official)
    return path, variant or official, official is not None


def _read(path, own, variant):
    if formats.file_format(path) != formats.HDF5:
        return formats.read(path)
    # Keras fills a model of the file's own shape, whatever is asked for.
    with keras_files.weights_of(path, variant):
        return formats.read(path, own.kind(**own.fields))


def _new_model(path, target, overrides):
    """A model of a ``Description`` with other fields. A family for any size has no image_size."""
    kind, fields = target.kind, target.fields
    unknown = overrides.keys() - fields.keys() - {"image_size"}
    if unknown:
        raise UserError(
            f"{path}: a {kind.__name__} has no {min(unknown)!r}: expected one of"
            f" {', '.join(fields)}"
        )
    fields = {**fields, "class_names": None, **overrides}
    return kind(**{name: value for name, value in fields.items() if name in target.fields})
