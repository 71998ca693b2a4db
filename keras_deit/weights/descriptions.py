"""What a name or file holds, without building a model: its class and constructor fields."""

import contextlib
import inspect
import json
import operator
from dataclasses import dataclass

import keras

from keras_deit.configs.variants import VARIANTS
from keras_deit.models.base import LORA, ImageClassifier
from keras_deit.models.factory import family_named, family_names, family_of, variant_fields
from keras_deit.utils.errors import UserError, reason
from keras_deit.utils.validation import class_name_tuple, height_and_width
from keras_deit.weights import formats, keras_files
from keras_deit.weights.sources import local_file, official_variant

METADATA = "keras_deit"  # our key in the metadata of a safetensors file
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


def describe(source, variant=None):
    """What ``load`` would make of a name or file, without downloading or building anything.

    No more of a file is read than its header. What a ``.keras`` file says of itself is only checked
    for sense, a description of a safetensors file against the shapes of its parameters.

    Args:
        source: str or path, as for ``load``; or a row of ``VARIANTS`` without published weights.
        variant: str or None. The row of ``VARIANTS`` that a file's weights belong to, needed if
            the file does not say so itself. Of a ``.weights.h5`` file, the answer is this row with
            the classes, tokens and resolution that the file has; of any other, the row.

    Returns:
        A ``Description``: ``kind``, a subclass of ``ImageClassifier``, and ``fields``.

    Raises:
        UserError: as for ``load``, and for a ``.keras`` file of another model.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.weights import describe
        >>> description = describe("deit_tiny_distilled_patch16_224")
        >>> description.kind is kd.DeiT, description.fields["width"]
        (True, 192)
    """
    if str(source) in VARIANTS:
        return of_variant(variant or str(source))

    path = local_file(source)
    variant = variant or official_variant(path)
    with one_line_errors(path):
        content = describe_content(path, variant)
        if variant is not None and formats.file_format(path) != formats.HDF5:
            return of_variant(variant)
        return content or undescribed(path)


def describe_content(path, variant=None, overrides=()):
    """Reads how a file describes its content, as a ``Description``, or None.

    Args:
        path: a ``pathlib.Path``.
        variant: str or None. The row that a ``.weights.h5`` file's weights belong to. If there is
            none, the ``config.json`` of timm beside any other file counts as part of it.
        overrides: dict of fields in which the model of a ``.weights.h5`` file differs from the row.

    Raises:
        UserError: a ``.weights.h5`` file without ``variant``, or a description that does not match
            the file's parameters.
        Exception: of many types, if the file is corrupt or made to do harm; see
            ``one_line_errors``.
    """
    file_format = formats.file_format(path)
    if file_format == formats.HDF5:
        return _of_hdf5(path, variant, dict(overrides))

    if file_format == formats.KERAS:
        config = keras_files.read_config(path)
        with _naming(path):
            return _of_keras_config(config)

    content = None
    metadata, shapes = {}, None
    if file_format == formats.SAFETENSORS:
        metadata, shapes = formats.safetensors_header(path)
    with _naming(path):
        if METADATA in metadata:
            content = _of_metadata(metadata[METADATA])
        elif variant is None:
            content = _of_timm_config(path.with_name("config.json"))
    if content is not None and shapes is not None:
        _check_shapes(path, content, shapes)
    return content


def undescribed(path):
    """Raises the UserError for a file whose architecture neither it nor the caller gives."""
    if formats.file_format(path) == formats.KERAS:
        name = keras_files.read_config(path).get("class_name")
        name = name if isinstance(name, str) and name.isidentifier() else "model of another kind"
        raise UserError(f"{path} holds a {name[:80]}: expected a {family_names()}")
    raise UserError(
        f"{path} contains only weights: expected variant=<name>, one of {', '.join(VARIANTS)}"
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


def of_variant(variant):
    """The ``Description`` of a row of ``VARIANTS``. Raises UserError for an unknown name."""
    return _description(family_of(variant), variant_fields(variant))


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


def _of_timm_config(path):
    """From the ``config.json`` that timm writes beside a file; None if there is none, or that of
    another library or of a model that is not in ``VARIANTS``."""
    try:
        with open(path, "rb") as file:
            config = json.loads(file.read(keras_files.CONFIG_LIMIT))
        variant = config["architecture"]
        arguments = config.get("model_args") or {}

        renamed = family_of(variant).timm_arguments
        values = {renamed[name]: value for name, value in arguments.items() if name in renamed}
        values["num_classes"] = config["num_classes"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return _description(family_of(variant), {**variant_fields(variant), **values})


def _check_shapes(path, description, shapes):
    """Raises UserError if a file's parameters are not those of its description: the model that it
    describes may take any amount of memory."""
    kind = description.kind
    fields = description.fields
    for name, expected in kind.parameter_shapes(fields).items():
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
