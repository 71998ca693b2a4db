"""Atomic writes: the target holds all of the new content, or what it held before."""

import hashlib
import json
import os
import pathlib

import pytest

import keras_deit as kd
from keras_deit.utils import files


@pytest.fixture
def umask():
    """A function that sets the process' umask, only for this test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def test_a_file_is_written_beside_its_target_and_then_renamed(tmp_path):
    path = tmp_path / "new" / "folder" / "model.keras"
    seen = []

    def writer(partial):
        seen.append((partial.parent, partial.suffix, path.exists()))
        partial.write_text("content")

    files.atomic_write(str(path), writer)
    assert seen == [(path.parent, ".keras", False)]
    assert path.read_text() == "content"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("no such layer"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_file_as_it_was(error, tmp_path):
    path = tmp_path / "model.keras"

    def writer(partial):
        partial.write_text("half of the ne")
        raise error

    with pytest.raises(type(error)):
        files.atomic_write(path, writer)
    assert list(tmp_path.iterdir()) == []

    path.write_text("old content")
    with pytest.raises(type(error)):
        files.atomic_write(path, writer)
    assert path.read_text() == "old content"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_folder_as_it_was(tmp_path):
    path = tmp_path / "saved_model"

    def writer(partial):
        (partial / "graph").write_text("half of the ne")
        raise ValueError("no such operation")

    with pytest.raises(ValueError, match="no such operation"):
        files.atomic_write_folder(path, writer)
    assert list(tmp_path.iterdir()) == []

    path.mkdir()
    (path / "graph").write_text("old content")
    with pytest.raises(ValueError, match="no such operation"):
        files.atomic_write_folder(path, writer)
    assert (path / "graph").read_text() == "old content"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_all_of_the_old_one(tmp_path):
    path = tmp_path / "new" / "saved_model"
    files.atomic_write_folder(path, lambda partial: (partial / "old").write_text("old"))
    files.atomic_write_folder(path, lambda partial: (partial / "new").write_text("new"))
    assert list(path.parent.iterdir()) == [path]
    assert [file.name for file in path.iterdir()] == ["new"]


def test_a_file_left_by_a_killed_process_of_the_same_id_is_no_obstacle(tmp_path):
    path = tmp_path / "model.keras"
    (tmp_path / f"{files.PARTIAL}{os.getpid()}-model.keras").write_text("half of the")

    files.atomic_write(path, lambda partial: partial.write_text("content"))
    assert path.read_text() == "content"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_left_by_a_killed_process_of_the_same_id_are_no_obstacle(tmp_path):
    path = tmp_path / "model"
    files.atomic_write_folder(path, lambda partial: (partial / "first").write_text(""))
    for prefix in (files.PARTIAL, ".old-"):
        leftover = tmp_path / f"{prefix}{os.getpid()}-model"
        leftover.mkdir()
        (leftover / "graph").write_text("half of the")

    files.atomic_write_folder(path, lambda partial: (partial / "second").write_text(""))
    assert [file.name for file in path.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_the_umask(mask, mode, tmp_path, umask):
    umask(mask)

    def private_writer(partial):  # as some libraries do
        partial.unlink()
        os.close(os.open(partial, os.O_CREAT | os.O_WRONLY, 0o600))

    files.atomic_write_text(tmp_path / "text", "content")
    files.atomic_write(tmp_path / "private", private_writer)
    assert (tmp_path / "text").stat().st_mode & 0o777 == mode
    assert (tmp_path / "private").stat().st_mode & 0o777 == mode


def test_writing_leaves_the_umask_unchanged(tmp_path, umask):
    umask(0o027)
    files.atomic_write_text(tmp_path / "text", "content")
    assert umask(0o022) == 0o027


@pytest.mark.parametrize("write", [files.atomic_write, files.atomic_write_folder])
def test_a_path_below_a_file_cannot_be_written(write, tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "model"
    with pytest.raises(kd.UserError, match=f"^cannot write {path}: "):
        write(path, lambda partial: None)


def test_a_full_disk_is_one_line_and_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "text"
    path.write_text("old content")

    def writer(partial):
        partial.write_text("half")
        pathlib.Path("/dev/full").write_text("the other half")  # this device is always full

    with pytest.raises(
        kd.UserError, match=f"^cannot write {path}: No space left on device: make room"
    ):
        files.atomic_write(path, writer)
    assert path.read_text() == "old content"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf8_and_json_is_indented(tmp_path):
    files.atomic_write_text(tmp_path / "text", "81.4 ± 3.1")
    assert (tmp_path / "text").read_bytes() == b"81.4 \xc2\xb1 3.1"

    value = {"epochs": 3, "teacher": None}
    files.atomic_write_json(tmp_path / "plan.json", value)
    text = (tmp_path / "plan.json").read_text()
    assert json.loads(text) == value
    assert text == '{\n  "epochs": 3,\n  "teacher": null\n}\n'


def test_a_value_that_json_cannot_hold_writes_no_file(tmp_path):
    with pytest.raises(TypeError):
        files.atomic_write_json(tmp_path / "plan.json", {"path": tmp_path})
    assert list(tmp_path.iterdir()) == []


def test_sha256_is_that_of_the_content(tmp_path):
    content = bytes(range(256)) * 5000  # more than one read
    (tmp_path / "file").write_bytes(content)
    assert files.sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
