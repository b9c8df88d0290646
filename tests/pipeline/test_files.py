"""Files that a command reads and writes: their format, their rows, their columns, and that none is overwritten."""

import io
import json
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.cli import main
from pipeline.config import validate
from pipeline.options import TableOptions
from pipeline.run_config import RunConfig, read_run_config
from simile.artifacts import ReadOptions
from simile.errors import InputError

PLAIN = ("--device", "cpu", "--precision", "fp32")
ROW = {"id": 7, "text_a": "forgot my password", "text_b": "I forgot the password", "label": 1, "tags": ["x", None]}
LINE = json.dumps(ROW) + "\n"


@pytest.fixture
def score(words, tmp_path):
    """Score a file; return the exit code and the rows that are written."""

    def score(file, *options, out="scored.jsonl"):
        code = main(["score", str(words.path), "--pairs", str(file), "--out", str(tmp_path / out), *options, *PLAIN])
        return code, [json.loads(line) for line in (tmp_path / out).read_text().splitlines()] if code == 0 else []

    return score


def test_score_keeps_every_column_and_adds_its_own(score, tmp_path):
    (tmp_path / "x.jsonl").write_text(LINE)
    code, (row,) = score(tmp_path / "x.jsonl")
    assert code == 0
    assert list(row) == [*ROW, "score", "probability"]
    assert {name: row[name] for name in ROW} == ROW
    assert row["probability"] is None


def test_score_keeps_the_columns_by_the_names_that_the_file_has(score, tmp_path):
    (tmp_path / "x.csv").write_text("question1,right,note\na password,the password,\n")
    code, rows = score(tmp_path / "x.csv", "--column", "text_a=question1", "--column", "text_b=right")
    assert code == 0
    assert [list(row.items())[:3] for row in rows] == [
        [("question1", "a password"), ("right", "the password"), ("note", None)]
    ]


def test_score_overwrites_no_column_and_is_no_label_afterwards(score, words, tmp_path, capsys):
    (tmp_path / "x.jsonl").write_text(json.dumps(ROW | {"label": None, "score": 0.25}) + "\n")
    _, (row,) = score(tmp_path / "x.jsonl")
    assert row["input_score"] == 0.25
    assert f"{tmp_path / 'x.jsonl'}:1: the column 'score' is written as 'input_score'" in capsys.readouterr().err
    _, (again,) = score(tmp_path / "scored.jsonl", out="again.jsonl")
    assert (again["input_score"], again["input_input_score"]) == (0.25, row["score"])
    assert main(["evaluate", str(words.path), str(tmp_path / "scored.jsonl"), *PLAIN]) == 2
    assert "got pairs without a label" in capsys.readouterr().err


def test_score_writes_what_json_can_hold(score, tmp_path, capsys):
    table = {
        "text_a": ["a password"] * 2,
        "text_b": ["my password"] * 2,
        "day": pa.array([2**30, 1], pa.date32()),
        "weight": [float("nan"), 0.5],
        "raw": pa.array([b"\xff", b"a"]),
    }
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    _, rows = score(tmp_path / "x.parquet")
    assert [(row["day"], row["weight"], row["raw"]) for row in rows] == [(None, None, None), ("1970-01-02", 0.5, "a")]
    assert "column 'day': 1 values cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--pairs", "-"], ["--pairs=-"], ["--pairs", "/dev/stdin"]])
def test_score_reads_standard_input(words, monkeypatch, capsys, given):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINE.encode())))
    assert main(["score", str(words.path), *given, *PLAIN]) == 0
    assert float(capsys.readouterr().out) > 0


@pytest.mark.parametrize("depth", [500, 900, 940, 950, 960, 970, 980, 990, 5000])
def test_deep_json_is_written_or_refused_in_one_line(score, tmp_path, capsys, depth):
    (tmp_path / "x.jsonl").write_text(json.dumps(ROW)[:-1] + ', "deep": ' + "[" * depth + "]" * depth + "}\n")
    code, _ = score(tmp_path / "x.jsonl")
    assert code == 0 or (code, capsys.readouterr().err.splitlines()[-1]) == (
        2,
        f"simile: {tmp_path / 'x.jsonl'}:1: JSON nested too deep",
    )


def test_number_of_rows_is_said(score, tmp_path, capsys):
    (tmp_path / "x.tsv").write_text('text_a\ttext_b\n"Yes\tb\nc\td\ne"\tf\n')
    assert score(tmp_path / "x.tsv")[0] == 0
    assert f"{tmp_path / 'x.tsv'}: 3 rows\n" in capsys.readouterr().err


@pytest.fixture
def place(tmp_path, words, tiny, documents, write_documents, monkeypatch):
    """A folder with inputs, and other names of some."""
    write_documents(tmp_path / "documents.jsonl", documents)
    (tmp_path / "x.jsonl").write_text(LINE + LINE.replace(": 1", ": 0"))
    (tmp_path / "link.jsonl").symlink_to("x.jsonl")
    os.link(tmp_path / "x.jsonl", tmp_path / "hard.jsonl")
    (tmp_path / "parts").mkdir()
    os.link(tmp_path / "x.jsonl", tmp_path / "parts" / "0.jsonl")
    (tmp_path / "words").symlink_to(words.path)
    (tmp_path / "tiny").symlink_to(tiny.path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "score words --pairs x.jsonl --out x.jsonl",
        "score words --pairs x.jsonl --out ./link.jsonl",
        "score words --pairs link.jsonl --out hard.jsonl",
        "score words --pairs parts --out parts/new.jsonl",
        "score words --pairs parts --out x.jsonl",
        "score words --pairs x.jsonl --out words/manifest.json",
        "evaluate words x.jsonl --json x.jsonl",
        "evaluate words y=x.jsonl --html hard.jsonl",
        "evaluate words documents.jsonl --guard x.jsonl --html x.jsonl",
        "evaluate words x.jsonl --json words/notes.json",
        "mine documents.jsonl --out documents.jsonl",
        "mine documents.jsonl --out .",
        "mine documents.jsonl --held-out parts/0.jsonl --out parts",
        "mine documents.jsonl --target parts/0.jsonl --out parts",
        "train minilm --pairs parts/0.jsonl --out parts",
        "train minilm --pairs x.jsonl --dev d=parts/0.jsonl --out parts",
        "join tiny words --fit parts/0.jsonl --out parts",
        "baseline lexical:documents.jsonl --out documents.jsonl",
    ],
)
def test_input_is_never_written_to(place, capsys, command):
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert main(command.split()) == 2
    assert ": is read as input (" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_words_are_labels_where_it_is_said(words, tmp_path, capsys):
    rows = ["password,password,duplicate", "password,card,other", "card,card,duplicate", "card,refund,other"]
    (tmp_path / "x.csv").write_text("\n".join(["text_a,text_b,label", *rows]))
    argv = ["evaluate", str(words.path), str(tmp_path / "x.csv"), *PLAIN]
    assert main(argv) == 2
    assert "got label 'duplicate', need 0 or 1, or --label positive=WORD,WORD" in capsys.readouterr().err
    assert main([*argv, "--label", "positive=Duplicate, entailment"]) == 0
    assert "labels that --label does not list are read as negative: 'other' (2)" in capsys.readouterr().err
    assert main([*argv, "--label", "positive=duplicate", "--label", "negative=other"]) == 0
    assert "are read as negative" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"delimiter": "ab"}, "delimiter: got 'ab', need one character"),
        ({"delimiter": "none"}, "delimiter: got 'none', need one character"),
        ({"quote": ""}, "quote: got '', need one character"),
        ({"delimiter": "'", "quote": "'"}, "need a delimiter that is not the quote"),
        ({"encoding": "base64"}, "encoding: got 'base64', need an encoding such as cp1252 or utf-16"),
        ({"encoding": "no\0"}, "need an encoding such as cp1252"),
        ({"format": "xlsx"}, "format: got 'xlsx', need 'jsonl', 'json', 'csv', 'tsv' or 'parquet'"),
        ({"label": ["duplicate"]}, "label: got ['duplicate'], need positive=WORD,WORD or negative=WORD,WORD"),
        ({"label": ["positive=, "]}, "need positive=WORD,WORD or negative=WORD,WORD"),
        ({"label": ["positive=a,b", "negative=B"]}, "need each word on one side, not 'b' on both"),
    ],
)
def test_unusable_option_is_named(options, fault):
    with pytest.raises(InputError) as caught:
        validate(TableOptions, options, "run.yaml")
    assert fault in str(caught.value)


def test_run_reads_as_its_keys_say(tmp_path):
    train = {"base": "bundled:minilm"}
    values = {"documents": "x.txt", "mine": {"test_share": 0.1}, "train": train, "format": "csv", "delimiter": "tab"}
    values |= {"quote": "none", "encoding": "cp1252", "label": {"positive": ["Same", 2.0], "negative": "other"}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    expected = ReadOptions("csv", "\t", "", "cp1252", frozenset(["same", "2"]), frozenset(["other"]))
    assert read_run_config(tmp_path / "run.yaml").reading == expected


def test_every_option_of_tables_is_a_key_of_a_run():
    assert set(TableOptions.model_fields) < set(RunConfig.model_fields)
