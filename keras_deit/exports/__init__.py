"""Files for other runtimes: SavedModel, LiteRT and ONNX, each loaded again and compared."""

from keras_deit.exports.exporting import Report, export, table
from keras_deit.exports.litert import QUANTIZATIONS
from keras_deit.exports.samples import spread

__all__ = ["QUANTIZATIONS", "Report", "export", "spread", "table"]
