import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simile.files import sha256_bytes, sha256_file, whole_directory, write_whole


def fail_in(path, error) -> None:
    """Write half of a folder, then raise the error."""
    with whole_directory(path) as folder:
        (folder / "x").write_text("new")
        raise error


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


@given(st.binary())
def test_hashes_are_the_sha256_of_the_bytes(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("x") / "x"
    file.write_bytes(data)
    assert sha256_bytes(data) == sha256_file(file) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(("data", "expected"), [(b"\x00\r\n", b"\x00\r\n"), ("é\r\n", "é\r\n".encode()), ("", b"")])
def test_file_holds_what_was_given_byte_for_byte(tmp_path, data, expected):
    write_whole(tmp_path / "x", data)
    assert (tmp_path / "x").read_bytes() == expected


def test_file_takes_the_place_of_the_old_and_leaves_nothing_beside_it(tmp_path):
    for text in ("a long first text", "short"):
        write_whole(tmp_path / "x", text)
    assert (tmp_path / "x").read_text() == "short"
    assert os.listdir(tmp_path) == ["x"]


def test_file_is_written_into_folders_that_are_not_there_yet(tmp_path):
    write_whole(tmp_path / "a" / "b" / "x", "text")
    assert (tmp_path / "a" / "b" / "x").read_text() == "text"


def test_file_that_cannot_be_written_leaves_the_old(tmp_path):
    write_whole(tmp_path / "x", "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "x", "half a surrogate pair \ud800")
    assert (tmp_path / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_file_does_not_take_the_place_of_a_folder(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "x", "text")
    assert os.listdir(tmp_path) == ["x"]


def test_reader_of_the_old_file_is_not_disturbed(tmp_path):
    write_whole(tmp_path / "x", "old")
    with (tmp_path / "x").open() as reader:
        write_whole(tmp_path / "x", "new")
        assert reader.read() == "old"


def test_files_and_folders_get_the_permissions_of_the_umask(tmp_path, umask):
    write_whole(tmp_path / "x", "text")
    with whole_directory(tmp_path / "folder"):
        pass
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~umask


def test_folder_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "a" / "folder"
    with whole_directory(path) as folder:
        (folder / "x").write_text("text")
        assert not path.exists()
    assert (path / "x").read_text() == "text"
    assert os.listdir(path.parent) == ["folder"]


def test_folder_takes_the_place_of_the_old_as_a_whole(tmp_path):
    for name in ("old", "new"):
        with whole_directory(tmp_path / "folder") as folder:
            (folder / name).write_text(name)
    assert os.listdir(tmp_path / "folder") == ["new"]
    assert os.listdir(tmp_path) == ["folder"]


def test_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    with whole_directory(tmp_path / "folder") as folder:
        (folder / "x").write_text("old")
    renames = []

    def replace(source, target, rename=os.replace):
        renames.append(target)
        if len(renames) == 2:
            raise PermissionError("no")
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(PermissionError), whole_directory(tmp_path / "folder") as folder:
        (folder / "x").write_text("new")
    assert (tmp_path / "folder" / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_error_in_the_block_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    with whole_directory(tmp_path / "folder") as folder:
        (folder / "x").write_text("old")
    with pytest.raises(error):
        fail_in(tmp_path / "folder", error)
    assert (tmp_path / "folder" / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["folder"]


def test_error_in_the_block_leaves_nothing_where_nothing_was(tmp_path):
    with pytest.raises(ValueError):  # noqa: PT011 - the message does not matter
        fail_in(tmp_path / "folder", ValueError)
    assert os.listdir(tmp_path) == []
