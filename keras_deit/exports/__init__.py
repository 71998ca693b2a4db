"""Files for other runtimes: SavedModel, LiteRT and ONNX, each loaded again and compared."""

from keras_deit.exports.calibration import sample_images
from keras_deit.exports.exporting import export
from keras_deit.exports.report import Report, table
from keras_deit.exports.settings import QUANTIZATIONS

__all__ = ["QUANTIZATIONS", "Report", "export", "sample_images", "table"]
