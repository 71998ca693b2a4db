"""Names that are not valid Unicode."""

import os
import pathlib

from keras_deit.utils import logs
from keras_deit.utils.files import atomic_write_text
from keras_deit.utils.names import printable
from keras_deit.utils.validation import class_name_tuple

LATIN_1 = os.fsdecode(b"caf\xe9")


def test_surrogates_are_escaped_and_nothing_else():
    assert printable(pathlib.Path(LATIN_1)) == "caf\\udce9"
    assert printable("\ud800") == "\\ud800"
    assert printable("ćma 蛾 ❤\n") == "ćma 蛾 ❤\n"


def test_class_names_can_be_stored():
    assert class_name_tuple([LATIN_1, "ćma"], 2) == ("caf\\udce9", "ćma")


def test_messages_can_be_printed(capsys):
    logs.info(f"{LATIN_1}: 2 files")
    assert capsys.readouterr().out == "caf\\udce9: 2 files\n"


def test_texts_can_be_written(tmp_path):
    atomic_write_text(tmp_path / LATIN_1, f"of {LATIN_1}: 蛾\n")
    assert (tmp_path / LATIN_1).read_text(encoding="utf-8") == "of caf\\udce9: 蛾\n"
