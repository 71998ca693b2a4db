"""Stanford Cars from files at hand: the addresses in TFDS' own builder are dead."""

import pathlib
import posixpath

from tensorflow_datasets.image_classification import cars196

from keras_deit.utils.errors import UserError

FILES = ("cars_train.tgz", "cars_test.tgz", "car_devkit.tgz", "cars_test_annos_withlabels.mat")


class Cars196(cars196.Cars196, skip_registration=True):
    """TFDS' ``cars196``, except that its files come from the manual folder.

    J. Krause et al., 3D Object Representations for Fine-Grained Categorization, 2013.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    The four files of the original distribution, {", ".join(FILES)}, as they were at
    ai.stanford.edu/~jkrause/cars and are mirrored elsewhere.
    """

    def _split_generators(self, dl_manager):
        # Relies on two things of TFDS 4.9: that its own builder takes all its files from a single
        # call, ``dl_manager.download_and_extract({key: address})``, whose addresses end in the
        # names of ``FILES``; and that ``_split_generators`` is where a builder asks for them.
        # With another call the stand-in raises AttributeError, in tests/data/test_datasets.py too.
        return super()._split_generators(_ManualFiles(dl_manager))


class _ManualFiles:
    """Stands in for TFDS' download manager: finds in the manual folder what it would download."""

    def __init__(self, manager):
        self.manager = manager

    def download_and_extract(self, urls):
        folder = pathlib.Path(self.manager.manual_dir)
        files = {key: folder / posixpath.basename(url) for key, url in urls.items()}

        missing = [file.name for file in files.values() if not file.is_file()]
        if missing:
            raise UserError(
                f"no {', '.join(missing)} in {folder}: expected {', '.join(FILES)}; put them there"
            )
        return {
            key: file if file.suffix == ".mat" else self.manager.extract(file)
            for key, file in files.items()
        }
