"""Odd files in the place of our own JSON files: each is refused in one line, and none is waited for or read whole."""

import os

import pytest

from simile.artifacts import RunFacts, TrainingHistory
from simile.artifacts.json_file import MAX_BYTES, read_json, read_model, validated
from simile.errors import InputError

FACTS = '{"config": {"x": %s}, "base": null, "version": "1", "pairs": [], "dev": {}, "calibration": []}'
ODD = {
    "empty": (b"", "Expecting value"),
    "half": (b'{"config": {', "no valid JSON"),
    "zeros": (b"\0" * 500, "no valid JSON"),
    "Latin-1": (b'{"\xe9": 1}', "no valid JSON"),
    "deep": (b"[" * 200_000, "nested too deep"),
    "deep value": ((FACTS % ("[" * 500 + "]" * 500)).encode(), "maximum validation depth"),
    "NaN": ((FACTS % "NaN").encode(), "finite number"),
    "infinite": ((FACTS % "-Infinity").encode(), "finite number"),
    "infinite number": ((FACTS % "1e999").encode(), "finite"),
    "digits": ((FACTS % ("1" + "0" * 5000)).encode(), "no valid JSON"),
    "key twice": ((FACTS % '{"a": 1, "a": 2}').encode(), "has a key twice"),
    "half a surrogate pair": ((FACTS % r'"\ud800"').encode(), "surrogates not allowed"),
    "long key": (b'{"%s": 1}' % (b"k" * 10**6), "Field required"),
    "array": (b"[]", "valid dictionary"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_content_is_refused_in_one_short_line(name, tmp_path):
    content, message = ODD[name]
    file = tmp_path / "run.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_model(file, RunFacts, "need the facts of a run")
    said = str(caught.value)
    assert said.startswith(f"{file}: ")
    assert said.endswith("; need the facts of a run")
    assert len(said) < len(str(file)) + 400
    assert "\n" not in said


@pytest.mark.parametrize("number", [10**400, -(10**400)])
def test_whole_number_beyond_every_float_is_no_figure(number, tmp_path):
    value = {"epochs": [{"epoch": 0, "seconds": number, "mean": None, "dev": {}, "histograms": {}}]}
    with pytest.raises(InputError, match=r"x: epochs\.0\.seconds: "):
        validated(value, TrainingHistory, tmp_path / "x")


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    paths = [tmp_path / name for name in ("pipe", "folder", "circle", "x" * 300)]
    for path in (*paths, type(tmp_path)("/dev/zero"), type(tmp_path)("/proc/self/mem")):
        with pytest.raises(InputError, match=r"is no regular file|cannot be read"):
            read_json(path)


def test_large_file_is_refused_without_reading_all_of_it(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(3 * 2**30)
    with pytest.raises(InputError, match=f"got more than {MAX_BYTES >> 20} MiB"):
        read_json(tmp_path / "sparse")


def test_missing_file_is_left_to_the_caller(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none")


def test_history_of_epochs_with_different_sets_is_refused(tmp_path):
    entry = {"epoch": 0, "seconds": 0, "mean": 0.5, "dev": {"a": {"spearman": 0.5}}, "histograms": {}}
    other = entry | {"epoch": 1, "dev": {"b": {"spearman": 0.5}}}
    assert validated({"epochs": [entry, entry]}, TrainingHistory, tmp_path / "x").epochs
    with pytest.raises(InputError, match="different names of sets"):
        validated({"epochs": [entry, other]}, TrainingHistory, tmp_path / "x")
