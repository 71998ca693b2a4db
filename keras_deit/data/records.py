"""Random access to the examples of one split: ``source[i]`` is an encoded image and its label.

An image is bytes of a JPEG, PNG or the like; a label is an int, or a tuple of ints where several
are right (ImageNet-ReaL).
"""

import os
import struct
import threading

import google_crc32c
import numpy as np

from keras_deit.utils.errors import UserError


class Records:
    """A prepared TFDS split, ArrayRecord or TFRecord, of which ``keys`` are the features of image
    and label."""

    def __init__(self, builder, split, keys):
        import tensorflow_datasets as tfds

        self.image, self.label = keys
        decoders = {self.image: tfds.decode.SkipDecoding()}
        formats = {kind.value: kind for kind in builder.info.available_file_formats()}
        files = [part.filename for part in builder.info.splits[split].file_instructions]
        gone = [file for file in files if not os.path.isfile(file) or not os.path.getsize(file)]
        if gone and builder.info.file_format in formats.values():
            raise OSError(f"{gone[0]} is missing or empty")
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
        label = np.asarray(record[self.label])
        return bytes(record[self.image]), tuple(label.tolist()) if label.ndim else int(label)


class TFRecords:
    """Random access to TFRecord shards, which TFDS itself reads in their order only.

    The places of a shard's records are found when it is first read, from the lengths in it.
    """

    def __init__(self, builder, split, decoders):
        self.features, self.decoders = builder.info.features, decoders
        instructions = builder.info.splits[split].file_instructions
        self.files = [instruction.filename for instruction in instructions]
        self.skips = [instruction.skip for instruction in instructions]
        self.counts = {part.filename: part.examples_in_shard for part in instructions}
        self.starts = np.cumsum([0, *(instruction.take for instruction in instructions)])
        self.places, self.lock = {}, threading.Lock()

    def __len__(self):
        return int(self.starts[-1])

    def __getitem__(self, index):
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        file = self.files[number]
        with self.lock:
            if file not in self.places:
                self.places[file] = _places(file, self.counts[file])
        start, length = self.places[file][index - self.starts[number] + self.skips[number]]
        with open(file, "rb") as shard:
            shard.seek(start)
            example = shard.read(length)
            (checksum,) = struct.unpack("<I", shard.read(4))
        found = google_crc32c.value(example)
        if checksum != ((found >> 15 | found << 17) + 0xA282EAD8) & 0xFFFFFFFF:
            raise ValueError(f"the checksum of its record in {file} is another")
        features = self.features
        return features.deserialize_example_np(example, decoders=self.decoders)


def _places(file, count):
    """(start, length) of each record: a record is its length in 8 bytes, 4 of checksum, its data
    and 4 of checksum (TensorFlow's ``record_writer.h``)."""
    places, at, size = [], 0, os.path.getsize(file)
    with open(file, "rb") as shard:
        while at < size:
            shard.seek(at)
            (length,) = struct.unpack("<Q", shard.read(8).ljust(8, b"\0"))
            if at + 16 + length > size:
                raise UserError(f"{file} is truncated: prepare its data set again")
            places.append((at + 12, length))
            at += 16 + length
    if len(places) != count:
        raise UserError(f"{file} has {len(places)} of {count} records: prepare its data set again")
    return places
