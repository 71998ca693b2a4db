"""The file formats, a module each. A new format is a module and its place in ``FORMATS``.

A format's module has

- ``NAME``: the runtime that loads the file;
- ``SUFFIX``: of the file; "" if it is a folder;
- ``OPTIONS``: which of the ``ExportSettings`` in ``OPTIONAL`` it takes;
- ``write(model, path, settings)``: writes a float32 model of ``keras_deit``;
- ``load_function(path)``: loads the file in its runtime, and returns a function from normalized
  images, float32 (count, height, width, 3), to fused logits, float32 (count, num_classes).
"""

from keras_deit.exports import litert, onnx_file, saved_model
from keras_deit.exports.settings import ExportSettings
from keras_deit.utils.errors import UserError, reason

FORMATS = (litert, onnx_file, saved_model)
OPTIONAL = ("batch", "attention", "quantize")


def format_of(path):
    """The format with the suffix of ``path``, a ``pathlib.Path``.

    Raises:
        UserError: no format has this suffix.
    """
    for file_format in FORMATS:
        if path.suffix == file_format.SUFFIX:
            return file_format

    suffixes = ", ".join(file_format.SUFFIX for file_format in FORMATS if file_format.SUFFIX)
    raise UserError(f"{path}: expected {suffixes}, or no suffix for a SavedModel's folder")


def check_options(file_format, path, settings):
    """Raises UserError if ``settings`` ask for an option that the format of ``path`` lacks."""
    for option in OPTIONAL:
        value = getattr(settings, option)
        # The dataclass itself has the defaults.
        if option not in file_format.OPTIONS and value != getattr(ExportSettings, option):
            suffixes = [other.SUFFIX for other in FORMATS if option in other.OPTIONS]
            names = [f"a {suffix} file" if suffix else "a SavedModel" for suffix in suffixes]
            raise UserError(f"{path} with {option}={value}: expected {' or '.join(names)}")


def load(file_format, path):
    """The format's ``load_function``, whose errors become UserErrors.

    Raises:
        UserError: the runtime does not load the file.
    """
    try:
        return file_format.load_function(path)
    except UserError:
        raise
    except Exception as error:  # runtimes raise errors of many types
        raise UserError(f"{path}: its runtime does not load it: {reason(error)[:200]}") from error
