"""Random access to the examples of a prepared TFDS split: ``source[i]`` is an encoded image and its
label.

An image is the bytes of a JPEG, PNG or the like. A label is an int, or a tuple of ints if several
classes are right (ImageNet-ReaL).
"""

import os
import struct
import threading

import google_crc32c
import numpy as np

from keras_deit.utils.errors import UserError


class Records:
    """A prepared TFDS split, in ArrayRecord or TFRecord files.

    Args:
        builder: a TFDS builder.
        split: str. A split of it, slices included.
        keys: (image, label), the names of their features.

    Attributes:
        content: str. The dataset's name, configuration and version.

    Raises:
        OSError: a shard is missing or empty.
        ValueError: of TFDS, for a split that it does not know.
    """

    def __init__(self, builder, split, keys):
        import tensorflow_datasets as tfds

        self.image_key, self.label_key = keys
        self.content = builder.info.full_name
        decoders = {self.image_key: tfds.decode.SkipDecoding()}
        formats = {kind.value: kind for kind in builder.info.available_file_formats()}
        shards = [shard.filename for shard in builder.info.splits[split].file_instructions]

        missing = [file for file in shards if not os.path.isfile(file) or not os.path.getsize(file)]
        if missing and builder.info.file_format in formats.values():
            raise OSError(f"{missing[0]} is missing or empty")

        if "array_record" in formats:
            self.source = builder.as_data_source(
                split, decoders=decoders, file_format=formats["array_record"]
            )
        else:
            self.source = TFRecords(builder, split, decoders)

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        record = self.source[index]
        label = np.asarray(record[self.label_key])
        return bytes(record[self.image_key]), tuple(label.tolist()) if label.ndim else int(label)


class TFRecords:
    """Random access to TFRecord shards, which TFDS itself reads only in their order.

    The offsets of a shard's records are found when it is first read, from the lengths in it.
    """

    def __init__(self, builder, split, decoders):
        self.features = builder.info.features
        self.decoders = decoders

        # A split is a sequence of slices of shards: ``take`` records after ``skip`` others.
        slices = builder.info.splits[split].file_instructions
        self.files = [piece.filename for piece in slices]
        self.skips = [piece.skip for piece in slices]
        self.starts = np.cumsum([0, *(piece.take for piece in slices)])
        self.record_counts = {piece.filename: piece.examples_in_shard for piece in slices}

        self._offsets = {}
        self._lock = threading.Lock()

    def __len__(self):
        return int(self.starts[-1])

    def __getitem__(self, index):
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        file = self.files[number]
        with self._lock:
            if file not in self._offsets:
                self._offsets[file] = _record_offsets(file, self.record_counts[file])
        start, length = self._offsets[file][index - self.starts[number] + self.skips[number]]

        with open(file, "rb") as shard:
            shard.seek(start)
            example = shard.read(length)
            (expected,) = struct.unpack("<I", shard.read(4))
        if _masked_crc(example) != expected:
            raise ValueError(f"the checksum of its record in {file} is wrong")
        return self.features.deserialize_example_np(example, decoders=self.decoders)


def _masked_crc(data):
    """The CRC-32C that a TFRecord keeps of its data (TensorFlow's ``crc32c.h``)."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _record_offsets(file, count):
    """(start, length) of the data of each record.

    A record is its length in 8 bytes, 4 of checksum, its data and 4 of checksum (TensorFlow's
    ``record_writer.h``).
    """
    offsets = []
    position = 0
    size = os.path.getsize(file)

    with open(file, "rb") as shard:
        while position < size:
            shard.seek(position)
            (length,) = struct.unpack("<Q", shard.read(8).ljust(8, b"\0"))
            if position + 16 + length > size:
                raise UserError(f"{file} is truncated: prepare its dataset again")
            offsets.append((position + 12, length))
            position += 16 + length

    if len(offsets) != count:
        raise UserError(
            f"{file} has {len(offsets)} records, expected {count}: prepare its dataset again"
        )
    return offsets
