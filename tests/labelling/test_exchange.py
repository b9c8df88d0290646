"""Formats of other tools: what they export is read, and a round trip changes nothing."""

import csv
import json
from xml.etree import ElementTree

import pytest

from labelling.exchange import CHOICES, LABEL_STUDIO_CONFIG, exported, imported
from simile.artifacts import ReadOptions, SampledPair
from simile.errors import InputError

TIME = "2026-01-01T00:00:00+00:00"
PAIRS = (
    SampledPair("card lost", "I can't find my card", bundle_score=0.7, stratum="high", inclusion_probability=0.25),
    SampledPair('=HYPERLINK("http://x")', "'quoted', \"twice\"\nand more"),
    SampledPair("-5 degrees", "größer \N{SNOWMAN}"),
)


def read(path, tool, **values):
    return imported(path, tool, time=TIME, options=ReadOptions(), **values)


def task(pair=PAIRS[0], **annotation):
    """A task as Label Studio exports it, with one annotation."""
    usual = {
        "id": 1001,
        "result": [
            {
                "from_name": "answer",
                "id": "Dx_aB91ISN",
                "to_name": "text_b",
                "type": "choices",
                "value": {"choices": ["same"]},
            }
        ],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2021-03-09T22:16:08.728353Z",
        "lead_time": 4.288,
        "completed_by": 10,
    }
    (exported_task,) = json.loads(exported([pair], "label-studio"))
    return exported_task | {"id": 1, "annotations": [usual | annotation], "predictions": []}


def written(path, value):
    path.write_text(json.dumps(value))
    return path


def test_answers_of_label_studio_are_read(tmp_path):
    (answer,) = read(written(tmp_path / "tasks.json", [task()]), "label-studio")
    assert (answer.pair, answer.text_a, answer.text_b) == (PAIRS[0].key, PAIRS[0].text_a, PAIRS[0].text_b)
    assert (answer.answer, answer.annotator, answer.time) == ("same", "10", "2021-03-09T22:16:08.728353Z")
    assert (answer.seconds, answer.stratum, answer.inclusion_probability) == (4.288, "high", 0.25)


def test_skipped_tasks_and_people_with_addresses_are_read_and_empty_annotations_are_none(tmp_path):
    skipped = task(was_cancelled=True, result=[], completed_by={"id": 3, "email": "ada@example.org"})
    (answer,) = read(written(tmp_path / "tasks.json", [skipped, task(result=[])]), "label-studio")
    assert (answer.answer, answer.annotator) == ("skip", "ada@example.org")


def test_labeling_interface_has_the_names_that_are_read():
    view = ElementTree.fromstring(LABEL_STUDIO_CONFIG)
    assert [text.get("value") for text in view.iter("Text")] == ["$text_a", "$text_b"]
    assert [choice.get("value") for choice in view.iter("Choice")] == list(CHOICES)
    (choices,) = view.iter("Choices")
    assert choices.get("name") == "answer"


def test_nested_records_of_argilla_are_read(tmp_path):
    records = json.loads(exported(PAIRS, "argilla"))
    responses = [{"value": "same", "user_id": "u1"}, {"value": "different", "user_id": "u2"}]
    records[0] |= {"suggestions": {}, "responses": {"answer": responses}, "vectors": {}, "_server_id": "x"}
    answers = read(written(tmp_path / "records.json", records), "argilla")
    assert [(one.answer, one.annotator) for one in answers] == [("same", "u1"), ("different", "u2")]
    assert {one.pair for one in answers} == {PAIRS[0].key}
    assert {one.inclusion_probability for one in answers} == {0.25}
    assert {one.time for one in answers} == {TIME}


def test_flattened_records_of_argilla_are_read_without_drafts(tmp_path):
    record = {
        "id": "1",
        "text_a": "a",
        "text_b": "b",
        "stratum": "low",
        "answer.responses": ["same", "different", "same"],
        "answer.responses.users": ["u1", "u2", "u3"],
        "answer.responses.status": ["submitted", "discarded", "draft"],
    }
    answers = read(written(tmp_path / "records.json", [record]), "argilla")
    assert [(one.answer, one.annotator, one.stratum) for one in answers] == [
        ("same", "u1", "low"),
        ("skip", "u2", "low"),
    ]


def filled(path, answers, delimiter=","):
    """Write the exported sheet with these answers, as a spreadsheet would."""
    with (path.parent / "sheet.csv").open("w", encoding="utf-8", newline="") as file:
        file.write(exported(PAIRS, "csv"))
    with (path.parent / "sheet.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(row | {"answer": answer} for row, answer in zip(rows, answers, strict=True))
    return path


def test_round_trip_through_a_spreadsheet_keeps_every_text(tmp_path):
    path = filled(tmp_path / "filled.csv", ["Same", "different", ""])
    answers = read(path, "csv", annotator="ada")
    assert [one.answer for one in answers] == ["same", "different"]
    assert [(one.text_a, one.text_b) for one in answers] == [(one.text_a, one.text_b) for one in PAIRS[:2]]
    assert [one.pair for one in answers] == [one.key for one in PAIRS[:2]]
    assert answers[0].inclusion_probability == 0.25


def test_no_cell_of_a_spreadsheet_is_a_formula():
    content = exported([SampledPair(f"{first}x", "b") for first in "=+-@\t\r\n"], "csv")
    assert content.startswith("\ufeff")
    rows = list(csv.DictReader(content.removeprefix("\ufeff").splitlines(keepends=True)))
    assert all(row["text_a"].startswith("'") for row in rows)


def test_semicolons_are_read_where_they_are_named(tmp_path):
    path = filled(tmp_path / "filled.csv", ["unsure"] * 3, delimiter=";")
    options = ReadOptions(delimiter=";")
    assert len(imported(path, "csv", time=TIME, annotator="ada", options=options)) == 3


@pytest.mark.parametrize(
    ("tool", "value", "message"),
    [
        ("label-studio", {"data": {}}, "got no array of records, need the JSON that label-studio exports"),
        ("label-studio", [{"data": {}, "annotations": [{"was_cancelled": True}]}], "record 1: got no text_a"),
        (
            "argilla",
            [{"fields": {"text_a": "a", "text_b": "b"}, "responses": {"answer": [{"value": "maybe", "user_id": "u"}]}}],
            "record 1: got the answer 'maybe', need one of same, different, unsure, skip",
        ),
        (
            "argilla",
            [{"fields": {"text_a": "a", "text_b": "b"}, "responses": {"answer": [{"value": "same"}]}}],
            "record 1: got no annotator, need --annotator NAME",
        ),
        ("label-studio", [{"data": {}, "annotations": 5}], "record 1: got 5, need a list"),
        ("argilla", [{"fields": {}, "responses": {"answer": "same"}}], "record 1: got 'same', need a list"),
        (
            "argilla",
            [{"answer.responses": ["same"], "answer.responses.users": [], "answer.responses.status": ["submitted"]}],
            "record 1: got responses, responses.users, responses.status of different lengths",
        ),
    ],
)
def test_what_is_none_of_the_tools_files_is_refused(tmp_path, tool, value, message):
    with pytest.raises(InputError, match=message):
        read(written(tmp_path / "file.json", value), tool)
