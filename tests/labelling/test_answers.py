"""Answers: none that was acknowledged is lost, and the last one to a pair counts."""

import pytest

from labelling.answers import Answer, append_answer, read_answers
from simile.errors import InputError


def answer(pair="1", choice="same", annotator="ada", **values):
    return Answer(
        pair=pair, text_a="a", text_b="b", answer=choice, annotator=annotator, time="2026-01-01T00:00:00Z", **values
    )


def test_last_answer_of_each_person_to_a_pair_counts(tmp_path):
    path = tmp_path / "labelled.jsonl"
    given = [answer(), answer("2", "different"), answer(choice="different"), answer(annotator="bob")]
    for one in given:
        append_answer(path, one)
    assert read_answers(path) == (given[1], given[2], given[3])


def test_undone_answer_is_none(tmp_path):
    path = tmp_path / "labelled.jsonl"
    for one in (answer(), answer("2"), answer(choice="undone")):
        append_answer(path, one)
    assert [one.pair for one in read_answers(path)] == ["2"]


def test_cut_last_line_is_dropped_and_does_not_spoil_the_next(tmp_path):
    path = tmp_path / "labelled.jsonl"
    append_answer(path, answer())
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    assert read_answers(path) == (answer(),)
    append_answer(path, answer("2"))
    append_answer(path, answer("3"))
    assert [one.pair for one in read_answers(path)] == ["1", "2", "3"]


def test_last_line_that_an_editor_left_without_an_end_is_an_answer_and_kept(tmp_path):
    path = tmp_path / "labelled.jsonl"
    append_answer(path, answer())
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert read_answers(path) == (answer(),)
    append_answer(path, answer("2"))
    assert [one.pair for one in read_answers(path)] == ["1", "2"]


def test_line_that_is_no_answer_is_refused_with_its_number(tmp_path):
    path = tmp_path / "labelled.jsonl"
    append_answer(path, answer())
    path.write_text('{"text_a": "x", "text_b": "y", "label": 1}\n' + path.read_text())
    with pytest.raises(InputError, match=r"labelled.jsonl:1: .*need an answer of simile label"):
        read_answers(path)
