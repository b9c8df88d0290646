"""`simile labels audit` and `simile labels correct`, from the files to the files."""

import json

import pytest

from labelling.answers import Answer, append_answer
from pipeline.cli import main
from simile.artifacts import read_pairs
from simile.artifacts.sampled_pairs import read_sampled_pairs
from tests.labelling.test_audit import some_pairs


@pytest.fixture
def files(tmp_path):
    """Returns a function that writes rows as JSONL."""

    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return path

    return write


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_audited_pairs_are_labelled_again_and_corrected(files, helpdesk, tiny, tmp_path, capsys, parse_page):
    rows = some_pairs(helpdesk)
    records = [
        {"text_a": row.text_a, "text_b": row.text_b, "label": row.label, "group_a": row.group_a, "group_b": row.group_b}
        for row in rows
    ]
    records[3]["label"] = 0
    pairs, out, page = files("pairs.jsonl", records), tmp_path / "audit.jsonl", tmp_path / "audit.html"
    before = pairs.read_bytes()
    command = ["labels", "audit", str(pairs), "--bundle", str(tiny.path), "--out", str(out), "--html", str(page)]
    assert main([*command, "--pairs", "5", "--device", "cpu"]) == 0
    assert "5 of 60 pairs listed" in capsys.readouterr().out
    listed = rows_of(out)
    assert len(listed) == 5
    assert {**records[3]}.items() <= listed[0].items()
    parse_page(page.read_text())
    assert records[3]["text_a"] in page.read_text()

    first = read_sampled_pairs(out)[0]
    answers = tmp_path / "corrections.jsonl"
    append_answer(
        answers,
        Answer(
            pair=first.key,
            text_a=first.text_a,
            text_b=first.text_b,
            answer="same",
            annotator="ada",
            time="2026-01-01T00:00:00Z",
        ),
    )
    corrected = tmp_path / "corrected.jsonl"
    assert main(["labels", "correct", str(pairs), str(answers), "--out", str(corrected)]) == 0
    assert "1 labels changed, 0 confirmed, 0 kept" in capsys.readouterr().out
    assert read_pairs(corrected).rows == tuple(rows)
    assert pairs.read_bytes() == before
    assert main(["labels", "correct", str(pairs), str(answers), "--out", str(pairs)]) == 2
    assert "is read as input" in capsys.readouterr().err


def test_documents_give_questions_about_their_groups(files, helpdesk, tiny, tmp_path, capsys):
    documents = files("documents.jsonl", [{"text": one.text, "group": one.group} for one in helpdesk])
    out = tmp_path / "audit.jsonl"
    assert main(["labels", "audit", str(documents), "--bundle", str(tiny.path), "--out", str(out)]) == 0
    assert "look like one: " in capsys.readouterr().out
    assert all(row["label"] == int(row["group_a"] == row["group_b"]) for row in rows_of(out))


def test_documents_without_groups_are_refused(files, tiny, tmp_path, capsys):
    documents = files("documents.jsonl", [{"text": f"text {index}"} for index in range(9)])
    assert main(["labels", "audit", str(documents), "--bundle", str(tiny.path), "--out", str(tmp_path / "out")]) == 2
    assert "need documents with 'group'" in capsys.readouterr().err
