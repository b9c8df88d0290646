"""Mining from sketches of shards, by the commands that a user types."""

import json
import os

import pytest

from pipeline.cli import main
from simile.artifacts import read_labelled_pairs

MINED = ("pairs.jsonl", "dev-unseen.jsonl", "report.json", "report.html")


@pytest.fixture
def corpus(helpdesk, write_documents, tmp_path, monkeypatch):
    """A file of documents of which many are not sampled, and which hold some texts several times."""
    monkeypatch.setattr("mining.config.MIN_DOCUMENTS", 500)
    repeated = [{"text": row.text.upper(), "group": row.group, "category": row.category} for row in helpdesk[::9]]
    path = write_documents(tmp_path / "documents.jsonl", helpdesk)
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in repeated)
    return path


@pytest.fixture
def target(corpus, tmp_path):
    """Pairs whose texts are among the documents."""
    assert main(["mine", str(corpus), "--pairs", "200", "--seed", "5", "--out", str(tmp_path / "target")]) == 0
    return tmp_path / "target" / "pairs.jsonl"


def sketched(corpus, folder, count, *options):
    for number in range(1, count + 1):
        assert main(["mine", str(corpus), "--sketch", f"{number}/{count}", "--out", str(folder), *options]) == 0
    return folder


def mined(documents, out, *options):
    assert main(["mine", str(documents), "--out", str(out), *options]) == 0
    return {name: (out / name).read_bytes() for name in MINED}


def test_pairs_of_one_and_of_five_sketches_are_those_of_the_documents(corpus, target, tmp_path):
    shared = ["--pairs", "200", "--seed", "3"]
    options = [*shared, "--held-out", str(target), "--dev-share", "0.2"]
    plain = mined(corpus, tmp_path / "plain", *options)
    assert 0 < json.loads(plain["report.json"])["sampled"] <= 500 < json.loads(plain["report.json"])["documents"]
    for count in (1, 5):
        sketches = sketched(corpus, tmp_path / f"sketches-{count}", count, *shared)
        assert mined(sketches, tmp_path / f"mined-{count}", *options) == plain


def test_pairs_of_sketches_with_known_positives_are_those_of_the_documents(corpus, target, tmp_path):
    positives = ["--positives", str(target), "--pairs", "60", "--dev-share", "0.2"]
    sketches = sketched(corpus, tmp_path / "sketches", 3, "--positives", str(target), "--pairs", "60")
    outs = []
    for documents in (corpus, sketches):
        out = tmp_path / f"mined-{len(outs)}"
        assert main(["mine", str(documents), "--out", str(out), *positives]) == 0
        outs.append([(out / name).read_bytes() for name in ("pairs.jsonl", "report.json")])
    assert outs[0] == outs[1]


def test_texts_that_repeat_in_another_shard_are_counted_and_in_no_pair_twice(corpus, tmp_path, monkeypatch):
    # All documents fit into the sample, so that each repetition is seen.
    monkeypatch.setattr("mining.config.MIN_DOCUMENTS", 40_000)
    num_rows = len(corpus.read_text().splitlines())
    # The repetitions come last, and are in the last shard.
    sketches = sketched(corpus, tmp_path / "sketches", 6)
    mined(sketches, tmp_path / "mined", "--pairs", "2000", "--dev-share", "0.2")
    report = json.loads((tmp_path / "mined" / "report.json").read_text())
    assert report["documents"] == num_rows
    assert report["dropped"]["duplicate text"] >= num_rows // 10
    texts = {text for pair in read_labelled_pairs(tmp_path / "mined" / "pairs.jsonl").texts for text in pair}
    assert len({text.casefold() for text in texts}) == len(texts)


def test_held_out_texts_of_any_shard_are_in_no_pair(corpus, target, tmp_path):
    sketches = sketched(corpus, tmp_path / "sketches", 4, "--pairs", "200")
    mined(sketches, tmp_path / "mined", "--pairs", "200", "--dev-share", "0.2", "--held-out", str(target))
    held_out = {text.casefold() for pair in read_labelled_pairs(target).texts for text in pair}
    texts = {text for pair in read_labelled_pairs(tmp_path / "mined" / "pairs.jsonl").texts for text in pair}
    assert held_out
    assert not held_out & {text.casefold() for text in texts}


@pytest.mark.parametrize("given", ["0/3", "4/3", "x", "1/0", "1/3/5", "-1/3", ""])
def test_a_shard_that_is_none_is_refused(corpus, tmp_path, capsys, given):
    assert main(["mine", str(corpus), f"--sketch={given}", "--out", str(tmp_path / "sketches")]) == 2
    assert f"--sketch: got {given!r}, need I/N with I from 1 to N, such as 1/8" in capsys.readouterr().err
    assert not (tmp_path / "sketches").exists()


@pytest.mark.parametrize(("flag", "value"), [("--held-out", "x.jsonl"), ("--max-uses", "3"), ("--band", "0.1 0.2")])
def test_an_option_that_has_no_effect_on_a_sketch_is_refused(corpus, tmp_path, capsys, flag, value):
    argv = ["mine", str(corpus), "--sketch", "1/3", "--out", str(tmp_path / "sketches"), flag, *value.split()]
    assert main(argv) == 2
    assert f"{flag}: has no effect on a sketch" in capsys.readouterr().err


def test_standard_input_is_not_sketched(tmp_path, capsys):
    assert main(["mine", "-", "--sketch", "1/3", "--out", str(tmp_path / "sketches")]) == 2
    assert "-: is a stream, need files or a folder, of which each shard can read its part" in capsys.readouterr().err


def test_a_folder_without_all_sketches_is_refused(corpus, tmp_path, capsys):
    sketches = sketched(corpus, tmp_path / "sketches", 3)
    os.remove(sketches / "3-of-3.sketch")
    assert main(["mine", str(sketches), "--out", str(tmp_path / "mined")]) == 2
    assert "sketches: got 2 of 3 sketches, need the one of shard 3 too (--sketch 3/3)" in capsys.readouterr().err
    assert not (tmp_path / "mined").exists()
