import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evaluation.ledger import count_looks, ledger_beside
from simile.artifacts import Pair, PairSet
from simile.errors import InputError

ROOT = Path(__file__).parents[2]


def a_set(name: str, number: int = 0) -> PairSet:
    return PairSet(name, (Pair("a", "b", label=1),), f"{number:064x}")


def digest(number: int) -> str:
    return f"{number:064x}"


def test_ledger_stands_beside_the_baseline():
    assert ledger_beside(Path("runs/base")) == Path("runs/base.looks.jsonl")


def test_every_other_bundle_is_a_look_and_the_same_one_is_not(tmp_path):
    sets = [a_set("seen", 1), a_set("unseen", 2)]
    counts = [count_looks(tmp_path / "ledger", digest(bundle), sets) for bundle in (1, 2, 1, 3)]
    assert counts == [({"seen": num, "unseen": num}, None) for num in (1, 2, 2, 3)]
    assert len((tmp_path / "ledger").read_text().splitlines()) == 6


def test_looks_are_those_at_the_same_pairs_under_any_name(tmp_path):
    ledger = tmp_path / "ledger"
    count_looks(ledger, digest(1), [a_set("test", 1)])
    assert count_looks(ledger, digest(2), [a_set("test", 2)])[0] == {"test": 1}
    assert count_looks(ledger, digest(2), [a_set("renamed", 1)])[0] == {"renamed": 2}


def test_folder_of_the_ledger_is_made(tmp_path):
    count_looks(tmp_path / "new" / "ledger", digest(1), [a_set("test")])
    assert (tmp_path / "new" / "ledger").is_file()


def test_processes_that_look_at_once_lose_no_look(tmp_path):
    code = (
        "import sys; from pathlib import Path; from evaluation.ledger import count_looks;"
        "from simile.artifacts import Pair, PairSet\n"
        "for i in range(40):\n"
        "    pairs = PairSet('test', (Pair('a', 'b', label=1),), '0' * 64)\n"
        "    count_looks(Path(sys.argv[1]), f'{sys.argv[2]}{i:063x}', [pairs])"
    )
    ledger = tmp_path / "ledger"
    command = [sys.executable, "-c", code, ledger]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: subprocess.run([*command, name], env=environ, check=True), "abc"))
    assert count_looks(ledger, digest(1), [a_set("test")]) == ({"test": 121}, None)


@pytest.mark.parametrize("content", ["notes\n", '{"text_a": "a"}\n', "{", "\0\0", "\n"])
def test_file_that_is_no_ledger_is_refused_and_stays(tmp_path, content):
    (tmp_path / "ledger").write_text(content)
    with pytest.raises(InputError, match=r"ledger:1: got no look at a test set, need a look"):
        count_looks(tmp_path / "ledger", digest(1), [a_set("test")])
    assert (tmp_path / "ledger").read_text() == content


def test_folder_or_pipe_in_place_of_a_ledger_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InputError, match="is no file, need one for the ledger"):
            count_looks(path, digest(1), [a_set("test")])


def test_ledger_on_a_read_only_disk_is_read_and_the_look_is_a_remark(disk):
    ledger = disk / "ledger"
    count_looks(ledger, digest(1), [a_set("test")])
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    counts, remark = count_looks(ledger, digest(2), [a_set("test")])
    assert counts == {"test": 2}
    assert remark == f"{ledger}: cannot be written to (Read-only file system), so this look is not counted"
    assert count_looks(disk / "other", digest(1), [a_set("test")])[0] == {"test": 1}
