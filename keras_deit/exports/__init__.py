"""Files for other runtimes: SavedModel, LiteRT and ONNX, each loaded again and compared."""

from keras_deit.exports.calibration import spread
from keras_deit.exports.exporting import Report, export, table
from keras_deit.exports.litert import QUANTIZATIONS

__all__ = ["QUANTIZATIONS", "Report", "export", "spread", "table"]
