import json
import unicodedata

import pyarrow
import pytest
from pyarrow import parquet

from simile.artifacts import Document, read_documents, text_key
from simile.artifacts.texts import MAX_CHARACTERS
from simile.errors import InputError


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def fault_of(path, columns=None) -> str:
    with pytest.raises(InputError) as caught:
        list(read_documents(path, columns))
    return str(caught.value)


def test_documents_keep_their_order_and_all_that_is_known_of_them(tmp_path):
    path = write(
        tmp_path / "x.jsonl",
        {"id": "b", "text": "second", "category": "animals", "group": "cats"},
        {"id": "a", "text": " first ", "category": 3, "group": 7, "other": [1]},
    )
    documents = list(read_documents(path))
    assert documents == [Document("b", "second", "animals", "cats"), Document("a", " first ", "3", "7")]


def test_documents_without_an_id_are_named_by_their_place(tmp_path):
    path = write(tmp_path / "x.jsonl", {"text": "a"}, {"id": "own", "text": "b"}, {"id": None, "text": "c"})
    assert [row.id for row in read_documents(path)] == ["row-1", "own", "row-3"]


def test_numbers_are_names_too(tmp_path):
    path = write(tmp_path / "x.jsonl", {"id": 17, "text": "a"})
    assert next(read_documents(path)).id == "17"


def test_columns_of_other_names_are_mapped(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("key,body,topic\n1,hello,greetings\n")
    columns = {"id": "key", "text": "body", "group": "topic"}
    assert list(read_documents(path, columns)) == [Document("1", "hello", None, "greetings")]


def test_long_text_is_cut_and_says_so(tmp_path):
    fits, long = "x" * MAX_CHARACTERS, "y" * (MAX_CHARACTERS + 1)
    path = write(tmp_path / "x.jsonl", {"text": fits}, {"text": long, "group": "g"}, {"text": long * 2})
    documents = list(read_documents(path))
    assert [row.text for row in documents] == [fits, long[:-1], long[:-1]]
    assert [row.is_cut for row in documents] == [False, True, True]
    assert documents[1].group == "g"


def test_documents_are_read_one_at_a_time(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "fine"}\nbroken\n')
    documents = read_documents(path)
    assert next(documents).text == "fine"
    with pytest.raises(InputError, match=r"x\.jsonl:2: no JSON"):
        next(documents)


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ({"id": "x"}, "got a document with the fields 'id', need 'text' (or --column text=NAME)"),
        ({}, "got a document with the fields none"),
        ({"text": ""}, "got text '', need a non-empty text"),
        ({"text": " \n\t "}, "got text ' \\n\\t ', need a non-empty text"),
        ({"text": None}, "got text None, need a non-empty text"),
        ({"text": 5}, "got text 5, need a non-empty text"),
        ({"text": ["a"]}, "got text ['a'], need a non-empty text"),
        ({"text": "ab\ud800"}, "got text with half a surrogate pair at character 2"),
        ({"text": "a", "group": ""}, "got group '', need a non-empty string or a whole number"),
        ({"text": "a", "category": 1.5}, "got category 1.5, need a non-empty string or a whole number"),
        ({"text": "a", "category": ["b"]}, "got category ['b']"),
    ],
)
def test_unusable_document_is_refused_with_its_line(tmp_path, record, fault):
    path = write(tmp_path / "x.jsonl", {"text": "fine"}, record)
    assert fault_of(path).startswith(f"{path}:2: {fault}")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_long_text_is_cut_alike_in_any_form(tmp_path, form):
    text = "\u00e9 \uac01 " * MAX_CHARACTERS
    path = write(tmp_path / "x.jsonl", {"text": unicodedata.normalize(form, text)})
    (document,) = read_documents(path)
    assert document.is_cut
    assert text_key(document.text) == text_key(text)


def test_groups_are_read_alike_from_all_formats(tmp_path):
    rows = [{"text": "a", "group": 17}, {"text": "b", "group": None}, {"text": "c", "group": 3}]
    write(tmp_path / "x.jsonl", *rows)
    write(
        tmp_path / "nan.jsonl",
        *({**row, "group": float("nan") if row["group"] is None else float(row["group"])} for row in rows),
    )
    (tmp_path / "x.csv").write_text("text,group\na,17\nb,\nc,3\n")
    # With a missing value, pandas makes whole numbers floats.
    parquet.write_table(pyarrow.table({"text": ["a", "b", "c"], "group": [17.0, None, 3.0]}), tmp_path / "x.parquet")
    parquet.write_table(
        pyarrow.table({"text": ["a", "b", "c"], "group": [17.0, float("nan"), 3.0]}), tmp_path / "nan.parquet"
    )
    for name in ("x.jsonl", "nan.jsonl", "x.csv", "x.parquet", "nan.parquet"):
        assert [row.group for row in read_documents(tmp_path / name)] == ["17", None, "3"]


def test_blank_cell_of_a_csv_is_refused_with_its_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,text\n1,fine\n2,\n")
    assert fault_of(path).startswith(f"{path}:3: got text None, need a non-empty text")


def test_second_document_of_an_id_is_refused_with_its_line(tmp_path):
    path = write(tmp_path / "x.jsonl", {"id": 1, "text": "a"}, {"id": "2", "text": "b"}, {"id": "1", "text": "c"})
    assert fault_of(path) == f"{path}:3: got id '1' a second time, need unique ids"


def test_an_own_id_may_not_be_the_place_of_another(tmp_path):
    path = write(tmp_path / "x.jsonl", {"id": "row-2", "text": "a"}, {"text": "b"})
    assert "got id 'row-2' a second time" in fault_of(path)


def test_every_document_of_the_sample_has_a_text_a_group_and_a_category(helpdesk):
    assert all(row.text and row.group and row.category and not row.is_cut for row in helpdesk)
