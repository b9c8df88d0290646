import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simile import files
from simile.errors import InputError, StoppedError
from simile.files import (
    alone,
    remove,
    require_writable,
    sha256_bytes,
    sha256_file,
    sweep,
    temporary_beside,
    whole_directory,
    write_whole,
)

ROOT = Path(__file__).parents[1]


def bind(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


KINDS = {
    "folder": lambda path: path.mkdir(),
    "link": lambda path: path.symlink_to(__file__),
    "dangling-link": lambda path: path.symlink_to("nowhere"),
    "circle": lambda path: path.symlink_to(path),
    "pipe": os.mkfifo,
    "socket": bind,
}
"""What may stand where a file is to be written."""
WRITER = """
import sys, itertools
from pathlib import Path
from simile.files import alone, remove, whole_directory, write_whole
folder = Path(sys.argv[1])
print("ready", flush=True)
with alone(folder / "out"):
    for number in itertools.count():
        write_whole(folder / "file", str(number) * 5000)
        with whole_directory(folder / "out") as new:
            for name in ("a", "b"):
                (new / name).write_text(str(number))
        if number % 3 == 0:
            remove(folder / "out")
"""


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


@pytest.mark.parametrize("kind", KINDS)
def test_file_takes_the_place_of_a_regular_file_only(tmp_path, kind, monkeypatch):
    # The path of a socket may have 107 bytes at most.
    monkeypatch.chdir(tmp_path)
    KINDS[kind](Path("x"))
    before = os.lstat("x")
    for write in (write_whole, lambda path, _: require_writable(path)):
        with pytest.raises(InputError, match=r"^x: is a .*, need a regular file or a new path to write to$"):
            write(Path("x"), "text")
    assert os.listdir() == ["x"]
    assert os.lstat("x") == before


def test_device_is_not_replaced():
    for path in (Path("/dev/null"), Path("/dev/stdout")):
        with pytest.raises(InputError, match=r"is a (device|symbolic link), need a regular file"):
            write_whole(path, "text")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "folder"])
def test_folder_takes_the_place_of_a_folder_only(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    KINDS[kind](Path("x"))
    with pytest.raises(InputError, match=r"^x: is a .*, need a folder or a new path"), whole_directory(Path("x")):
        pass
    assert os.listdir() == ["x"]


@pytest.mark.parametrize("path", ["/proc/x", "/sys/x", "/", ".", "..", "/dev/null/x", "x" * 300, "/proc/1/x/y"])
def test_output_that_cannot_be_written_is_refused_with_its_path(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"^{path}: "):
        require_writable(Path(path))
    assert os.listdir() == []


def test_output_that_can_be_written_is_left_alone(tmp_path):
    require_writable(tmp_path / "a" / "b" / "x", None)
    assert os.listdir(tmp_path) == []


def test_files_and_names_are_on_the_disk_before_and_after_the_rename(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def name(opened):
        return Path(os.readlink(f"/proc/self/fd/{opened}"))

    monkeypatch.setattr(os, "fsync", lambda opened: events.append(name(opened)) or fsync(opened))
    monkeypatch.setattr(os, "replace", lambda old, new: events.append("rename") or replace(old, new))
    write_whole(tmp_path / "new" / "x", "text")
    # The new folder's own name, the file, the name of the file.
    made, written, renamed, named = events
    assert (made, written.name, renamed, named) == (tmp_path, "new", "rename", tmp_path / "new")
    events.clear()
    with whole_directory(tmp_path / "new" / "folder") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "y").write_text("text")
    at = events.index("rename")
    assert [path.relative_to(folder) for path in events[:at]] == [Path("inner/y"), Path("inner"), Path()]
    assert events[at + 1 :][-1] == tmp_path / "new"


def test_what_a_killed_process_left_is_removed_and_what_a_running_one_writes_is_not(tmp_path):
    dead = tmp_path / ".x.abcd1234.tmp"
    below = tmp_path / "x" / "inner" / ".y.abcd1234.tmp"
    others = [tmp_path / ".x.settings", tmp_path / ".xx.abcd1234.tmp"]
    for folder in (dead, below, *others):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    with temporary_beside(tmp_path / "x") as running:
        assert not dead.exists()
        sweep(tmp_path / "x")
        assert running.is_dir()
        assert not below.exists()
    assert sorted(tmp_path.glob(".*")) == others


def test_replacing_that_was_killed_between_two_renames_is_finished(tmp_path):
    left = tmp_path / ".x.abcd1234.tmp"
    for name in ("old", "new"):
        (left / name).mkdir(parents=True)
        (left / name / name).touch()
    sweep(tmp_path / "x")
    assert os.listdir(tmp_path) == ["x"]
    assert os.listdir(tmp_path / "x") == ["new"]


def test_half_written_folder_does_not_appear(tmp_path):
    (tmp_path / ".x.abcd1234.tmp" / "new").mkdir(parents=True)
    sweep(tmp_path / "x")
    assert os.listdir(tmp_path) == []


def test_removal_takes_folders_files_links_and_nothing(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("kept")
    for name in ("folder", "file", "link", "nothing"):
        remove(tmp_path / name)
    assert os.listdir(tmp_path) == ["kept"]


def test_output_belongs_to_one_process_at_a_time(tmp_path):
    path = tmp_path / "new" / "x"
    with alone(path):
        with pytest.raises(StoppedError, match="x: another process is writing it"), alone(path):
            pass
        with alone(path.with_name("y")):
            pass
    with alone(path):
        pass
    assert os.listdir(tmp_path) == []


def test_reader_always_finds_the_old_folder_or_the_new_one(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    if not files._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot swap two folders")
    path, is_there, done = tmp_path / "a", [], threading.Event()

    def look():
        while not done.is_set():
            is_there.append(path.is_dir())

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(100):
        with whole_directory(path):
            pass
    done.set()
    reader.join()
    assert is_there
    assert all(is_there)


def test_killed_writer_leaves_whole_files_and_the_next_one_goes_on(tmp_path):
    draw = random.Random(0)
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
        ) as process:
            process.stdout.readline()
            time.sleep(draw.uniform(0, 0.05))
            assert process.poll() is None
            process.kill()
        assert process.returncode == -signal.SIGKILL
        if (tmp_path / "file").exists():
            text = (tmp_path / "file").read_text()
            assert text == text[: len(text) // 5000] * 5000
        if (tmp_path / "out").exists():
            assert len({(tmp_path / "out" / name).read_text() for name in ("a", "b")}) == 1
    with alone(tmp_path / "out"), whole_directory(tmp_path / "out"):
        pass
    write_whole(tmp_path / "file", "end")
    assert sorted(os.listdir(tmp_path)) == ["file", "out"]


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
    monkeypatch.setattr(files, "_exchange", lambda new, path: False)
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
