"""What a name or file holds, without building a model: its class and constructor fields."""

import contextlib
import inspect
import json
import operator
from dataclasses import dataclass, field

import keras

from keras_deit.configs.class_names import imagenet_names
from keras_deit.configs.preprocessing import as_preprocessing
from keras_deit.configs.variants import VARIANTS
from keras_deit.models.base import LORA, ImageClassifier
from keras_deit.models.factory import family_named, family_names, family_of, variant_fields
from keras_deit.utils.errors import UserError, reason
from keras_deit.utils.validation import class_name_tuple, height_and_width
from keras_deit.weights import formats, keras_files
from keras_deit.weights.identify import fitting_variant, head_classes, what_it_is
from keras_deit.weights.library_configs import read_config
from keras_deit.weights.names import HEADS
from keras_deit.weights.sources import local_file, official_variant

METADATA = "keras_deit"  # our key in the metadata of a safetensors file
FACTS = ("num_classes", "class_names", "preprocessing")  # of a file, whatever its variant
NO_FIELDS = ("name", "trainable", "dtype", LORA)  # of a .keras file's config: how Keras runs it


@dataclass(frozen=True)
class Description:
    """The class of a model, a subclass of ``ImageClassifier``, and its constructor arguments, as
    ``model.fields`` gives them."""

    kind: type
    fields: dict

    @property
    def grid(self):
        """(rows, columns) of patches, or None of a model without patches."""
        if not {"image_size", "patch_size"} <= self.fields.keys():
            return None
        return tuple(side // self.fields["patch_size"] for side in self.fields["image_size"])


@dataclass(frozen=True)
class Content:
    """What the header of a weights file says.

    Attributes:
        own: the ``Description`` of the model in it, or None if it does not say.
        facts: dict of those of ``FACTS`` that it shows.
        shapes: dict of its parameters' shapes by timm's names; empty for Keras' files.
    """

    own: Description | None
    facts: dict
    shapes: dict = field(default_factory=dict)


def describe(source, variant=None):
    """What ``load`` would make of a name or file, without downloading or building anything.

    No more of a file is read than its header, and the configuration of timm or transformers beside
    it. What a ``.keras`` file says of itself is checked for sense, a description of any other file
    against the shapes of its parameters.

    Args:
        source: str or path, as for ``load``; or a row of ``VARIANTS`` without published weights.
        variant: str or None. The row of ``VARIANTS`` that a file's weights belong to, needed if
            the file does not say so itself. The answer is this row with the classes, names and
            preprocessing that the file has; of a ``.weights.h5`` file, with its tokens and
            resolution too.

    Returns:
        A ``Description``: ``kind``, a subclass of ``ImageClassifier``, and ``fields``.

    Raises:
        UserError: as for ``load``, and for a ``.keras`` file of another model.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.weights import describe
        >>> description = describe("deit_tiny_distilled_patch16_224")
        >>> description.kind is kd.DeiT, description.fields["class_names"][207]
        (True, 'golden retriever')
    """
    if str(source) in VARIANTS:
        row = of_variant(variant or str(source))
        return of_imagenet(row) if VARIANTS[str(source)].published else row

    path = local_file(source)
    official = official_variant(path)
    variant = variant or official
    with one_line_errors(path):
        content = read_content(path, variant)
        # The header of a .weights.h5 file shows more than its row.
        is_own = variant is None or formats.file_format(path) == formats.HDF5
        result = content.own if is_own else of_variant(variant, content.facts)
        if result is None:
            undescribed(path, content)
        return of_imagenet(result) if official else result


def read_content(path, variant=None, overrides=()):
    """Reads the ``Content`` of a file from its header.

    Args:
        path: a ``pathlib.Path``.
        variant: str or None. The row that the file's weights belong to. If there is none, the
            configuration of timm or transformers beside the file says its architecture.
        overrides: dict of fields in which the model of a ``.weights.h5`` file differs from the row.

    Raises:
        UserError: a ``.weights.h5`` file without ``variant``, or a description that does not match
            the file's parameters.
        Exception: of many types, if the file is corrupt or made to do harm; see
            ``one_line_errors``.
    """
    file_format = formats.file_format(path)
    if file_format == formats.HDF5:
        own = _of_hdf5(path, variant, dict(overrides))
        return Content(own, {"num_classes": own.fields["num_classes"]})

    if file_format == formats.KERAS:
        config = keras_files.read_config(path)
        with _naming(path):
            own = _of_keras_config(config)
        return Content(own, {name: own.fields[name] for name in FACTS} if own else {})

    metadata, shapes = formats.header(path)
    own, facts = None, {}
    if count := head_classes(shapes):
        facts["num_classes"] = count

    with _naming(path):
        if METADATA in metadata:
            own = _of_metadata(metadata[METADATA])
            facts = {name: own.fields[name] for name in FACTS}
        elif config := read_config(path):
            if config.class_names and count:
                facts["class_names"] = class_name_tuple(config.class_names, count)
            if config.preprocessing:
                facts["preprocessing"] = config.preprocessing
            if config.kind and variant is None:
                own = _of_library(config, shapes, facts)

    if own is not None and shapes:
        _check_shapes(path, own, shapes, headless=METADATA not in metadata and not count)
    return Content(own, facts, shapes)


def of_imagenet(description):
    """A ``Description`` with the names of ImageNet's classes, if it has as many without names."""
    fields = description.fields
    if fields["class_names"] is None and fields["num_classes"] == len(imagenet_names()):
        return _description(description.kind, {**fields, "class_names": imagenet_names()})
    return description


def undescribed(path, content=None):
    """Raises the UserError for a file whose architecture neither it nor the caller gives."""
    if formats.file_format(path) == formats.KERAS:
        name = keras_files.read_config(path).get("class_name")
        name = name if isinstance(name, str) and name.isidentifier() else "model of another kind"
        raise UserError(f"{path} holds a {name[:80]}: expected a {family_names()}")

    shapes = content.shapes if content else {}
    fits, known = fitting_variant(shapes), what_it_is(shapes)
    raise UserError(
        f"{path} contains only weights: expected variant="
        + (fits or f"<name>, one of {', '.join(VARIANTS)}")
        + f"; {known or 'python -m scripts.convert writes a file that says its own'}"
    )


@contextlib.contextmanager
def one_line_errors(path):
    """Within it, whatever a corrupt or hostile file leads to becomes a UserError of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} cannot be loaded: {reason(error)[:200]}") from error


@contextlib.contextmanager
def _naming(path):
    """Within it, whatever is wrong with a description becomes a UserError that names the file."""
    try:
        yield
    except Exception as error:  # of many types: a description may hold any JSON
        raise UserError(
            f"{path} has an invalid description of its model: {reason(error)[:200]}"
        ) from error


def of_variant(variant, facts=()):
    """The ``Description`` of a row of ``VARIANTS``, with what a file shows whatever its variant.

    Raises:
        UserError: an unknown name.
    """
    return _description(family_of(variant), {**variant_fields(variant), **dict(facts)})


def _description(kind, values):
    """A ``Description`` from fields, some of which may be left to their defaults.

    Raises:
        UserError, ValueError, TypeError or ArithmeticError: they are no fields of such a model, or
            its sizes are not positive integers.
    """
    defaults = kind.constructor_arguments()

    if unknown := values.keys() - defaults.keys():
        raise ValueError(f"a {kind.__name__} has no {min(unknown)!r}")

    fields = {**defaults, **values}
    missing = [name for name, value in fields.items() if value is inspect.Parameter.empty]
    if missing:
        raise ValueError(f"a {kind.__name__} needs {missing[0]!r}")

    # As in ``model.fields``.
    fields = {name: list(x) if isinstance(x, tuple) else x for name, x in fields.items()}
    if "image_size" in fields:
        fields["image_size"] = list(height_and_width(fields["image_size"]))
    if fields["class_names"] is not None:
        fields["class_names"] = list(class_name_tuple(fields["class_names"], fields["num_classes"]))
    fields["preprocessing"] = as_preprocessing(fields["preprocessing"]).fields

    # A hostile file may give any JSON: what these sizes are computed from has to be numbers.
    sizes = [side for shape in kind.parameter_shapes(fields).values() for side in shape]
    if any(operator.index(size) < 1 for size in (*sizes, kind.block_count(fields))):
        raise ValueError(f"the sizes of a {kind.__name__} are not positive")
    return Description(kind, fields)


def _of_metadata(text):
    """From our own description in a safetensors file, JSON."""
    values = json.loads(text)
    name = values.pop("class")

    kind = family_named(name)
    if kind is None:
        raise ValueError(f"its {METADATA} metadata are of an unknown class {name!r}")
    if set(values) != kind.constructor_arguments().keys():
        raise ValueError(f"its {METADATA} metadata are not of a {kind.__name__}")
    return _description(kind, values)


def _of_keras_config(config):
    """From the ``config.json`` of a ``.keras`` file, or None for another model than ours."""
    # Only a look-up: "keras_deit>DeiT", or what a user registered for a subclass.
    kind = keras.saving.get_registered_object(config.get("registered_name"))
    if not (isinstance(kind, type) and issubclass(kind, ImageClassifier)):
        return None
    values = config["config"]
    return _description(kind, {k: v for k, v in values.items() if k not in NO_FIELDS})


def _of_hdf5(path, variant, overrides):
    """From the header of a ``.weights.h5`` file of a variant with other fields."""
    if variant is None:
        return undescribed(path)

    row = of_variant(variant)
    fields = {**row.fields, **overrides}
    image_sizes = [overrides.get("image_size"), row.fields.get("image_size")]
    with keras_files.weights_of(path, variant):
        fields |= keras_files.read_shape(
            path, fields.get("patch_size"), [size for size in image_sizes if size is not None]
        )
        known = {name: value for name, value in fields.items() if name in row.fields}
        return _description(row.kind, known)


def _of_library(config, shapes, facts):
    """From a ``LibraryConfig`` of one of our families."""
    fields = {name: value for name, value in config.fields.items() if value is not None}
    if "distilled" in config.kind.constructor_arguments():
        fields["distilled"] = "dist_token" in shapes
    # A size that no parameter shows might be any number.
    if "num_classes" not in facts:
        fields.pop("num_classes", None)
    return _description(config.kind, {**facts, **fields})


def _check_shapes(path, description, shapes, headless):
    """Raises UserError if a file's parameters are not those of its description: the model that it
    describes may take any amount of memory. Without heads, these are of the default size."""
    kind = description.kind
    fields = description.fields
    for name, expected in kind.parameter_shapes(fields).items():
        if headless and name.startswith(HEADS):
            continue
        if shapes.get(name) != expected:
            actual = shapes.get(name, "missing")
            raise UserError(
                f"{path} describes another model than it holds: {name} is {actual}, expected"
                f" {expected}"
            )

    actual = sum(name.endswith(kind.block_suffix) for name in shapes)
    expected = kind.block_count(fields)
    if actual != expected:
        raise UserError(
            f"{path} describes another model than it holds: {actual} blocks, expected {expected}"
        )
