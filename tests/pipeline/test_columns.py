"""`--column`: files whose columns are not named as ours are."""

import json
from dataclasses import fields

import pytest

from pipeline.cli import main
from pipeline.columns import _FIELDS
from simile.artifacts import Document, Pair, read_bundle, read_labelled_pairs

PLAIN = ("--device", "cpu", "--precision", "fp32")
COLUMNS = ["--column", "text_a=first", "--column", "text_b=second", "--column", "label=same"]


@pytest.fixture
def renamed(pairs, tmp_path):
    """The same pairs in a file with columns of other names."""
    rows = read_labelled_pairs(pairs).rows
    lines = ({"first": row.text_a, "second": row.text_b, "same": row.label} for row in rows)
    (tmp_path / "judged.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "judged.jsonl"


def test_columns_are_fields_of_documents_and_pairs():
    # Neither is a column: one is set while reading, the other is refused.
    assert set(_FIELDS["documents"]) == {field.name for field in fields(Document)} - {"is_cut"}
    assert set(_FIELDS["pairs"]) == {field.name for field in fields(Pair)}


def test_score_reads_pairs_by_other_column_names(words, pairs, renamed, capsys):
    printed = []
    for file, columns in ((pairs, []), (renamed, COLUMNS[:4])):
        assert main(["score", str(words.path), "--pairs", str(file), *columns, *PLAIN]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_evaluate_reads_a_file_of_our_names_beside_one_of_others(words, tiny, pairs, renamed, tmp_path, capsys):
    argv = ["evaluate", str(tiny.path), str(renamed), "--guard", f"ours={pairs}", "--baseline", str(words.path)]
    report = tmp_path / "report.json"
    assert main([*argv, *COLUMNS, "--json", str(report), *PLAIN]) == 0
    written = json.loads(report.read_text())
    assert written["sets"]["judged"]["bundle"] == written["guards"]["ours"]["bundle"]
    assert f"{pairs}: no column 'same', its column 'label' is read" in capsys.readouterr().err


def test_join_fits_on_pairs_by_other_column_names(words, tiny, pairs, renamed, tmp_path):
    weights = []
    for name, file, columns in (("ours", pairs, []), ("theirs", renamed, COLUMNS)):
        out = tmp_path / name
        argv = ["join", str(tiny.path), str(words.path), "--fit", str(file), "--out", str(out)]
        assert main([*argv, *columns]) == 0
        weights.append(read_bundle(out).manifest.combine.weights)
    assert weights[0] == weights[1]


def test_lexical_baseline_reads_documents_by_other_column_names(documents, tmp_path):
    file = tmp_path / "tickets.jsonl"
    file.write_text("".join(json.dumps({"body": row.text}) + "\n" for row in documents))
    argv = ["baseline", f"lexical:{file}", "--out", str(tmp_path / "lexical"), "--column", "text=body"]
    assert main(argv) == 0
    assert read_bundle(tmp_path / "lexical").manifest.members[0].dimension > 100


def test_mine_reads_documents_and_pairs_by_other_column_names(documents, tmp_path):
    file, kept_out = tmp_path / "tickets.jsonl", tmp_path / "kept-out.jsonl"
    file.write_text("".join(json.dumps({"body": row.text, "intent": row.group}) + "\n" for row in documents))
    kept_out.write_text(json.dumps({"first": documents[0].text, "text_b": documents[1].text, "label": 1}) + "\n")
    columns = ["--column", "text=body", "--column", "group=intent", "--column", "text_a=first"]
    argv = ["mine", str(file), "--out", str(tmp_path / "mined"), "--pairs", "60", "--held-out", str(kept_out)]
    assert main([*argv, *columns]) == 0
    report = json.loads((tmp_path / "mined" / "report.json").read_text())
    assert report["dropped"]["text of held-out pairs"] == 2
