import csv
import gzip
import io
import itertools
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simile.artifacts import bare_name
from simile.artifacts.reading import read_rows
from simile.artifacts.rows import ReadOptions
from simile.errors import InputError

RECORDS = [
    {"id": "a", "text": 'He said "no", twice.'},
    {"id": "b", "text": "two\nlines\tand a tab"},
    {"id": "ç", "text": "آپ 你好 😀"},
]
TEXT_FORMATS = ("jsonl", "ndjson", "json", "csv", "tsv")
QUOTED = ReadOptions(quote='"')
"""TSV has no quotes unless it is said: the writer of these tests quotes."""


def encoded(records, suffix: str) -> bytes:
    """The records in a text format, written without any of our code."""
    if suffix == "json":
        return json.dumps(records, ensure_ascii=False, indent=1).encode()
    if suffix in ("jsonl", "ndjson"):
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["id", "text"], delimiter="\t" if suffix == "tsv" else ",")
    writer.writeheader()
    writer.writerows(records)
    return buffer.getvalue().encode()


def write(path, content: bytes | str):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def fields_of(path, columns=None):
    return [row.fields for row in read_rows(path, columns, QUOTED)]


def fault_of(path, columns=None) -> str:
    with pytest.raises(InputError) as caught:
        list(read_rows(path, columns))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", TEXT_FORMATS)
def test_every_text_format_gives_the_same_records_plain_and_packed(tmp_path, suffix):
    plain = write(tmp_path / f"x.{suffix}", encoded(RECORDS, suffix))
    packed = write(tmp_path / f"x.{suffix}.gz", gzip.compress(encoded(RECORDS, suffix)))
    assert fields_of(plain) == fields_of(packed) == RECORDS


def test_parquet_gives_the_same_records(tmp_path):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(RECORDS), tmp_path / "x.parquet")
    assert fields_of(tmp_path / "x.parquet") == RECORDS


@pytest.mark.parametrize("suffix", TEXT_FORMATS)
def test_a_byte_order_mark_is_no_part_of_the_first_record(tmp_path, suffix):
    path = write(tmp_path / f"x.{suffix}", b"\xef\xbb\xbf" + encoded(RECORDS, suffix))
    assert fields_of(path) == RECORDS


VALUES = st.text(st.characters(codec="utf-8")) | st.integers()


@given(st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=3), min_size=1, max_size=5))
def test_jsonl_survives_whatever_a_text_may_hold(tmp_path_factory, records):
    path = write(tmp_path_factory.mktemp("x") / "x.jsonl", "".join(f"{json.dumps(record)}\n" for record in records))
    assert fields_of(path) == records


@given(
    st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)).map(lambda x: {"id": x[0], "text": x[1]}), min_size=1)
)
def test_csv_survives_whatever_a_text_may_hold(tmp_path_factory, records):
    path = write(tmp_path_factory.mktemp("x") / "x.csv", encoded(records, "csv"))
    assert fields_of(path) == records


def test_each_row_knows_its_line_blank_lines_counted(tmp_path):
    path = write(tmp_path / "x.jsonl", '{"a": 1}\n\n  \n{"a": 2}\n')
    assert [row.where for row in read_rows(path)] == [f"{path}:1", f"{path}:4"]


def test_a_csv_cell_may_be_as_long_as_a_document(tmp_path):
    path = write(tmp_path / "x.csv", f"id,text\n1,{'a' * 200_000}\n".encode())
    (row,) = read_rows(path)
    assert len(row.fields["text"]) == 200_000


def test_a_csv_row_over_several_lines_is_placed_at_its_last(tmp_path):
    path = write(tmp_path / "x.csv", 'id,text\n1,"two\nlines"\n2,one\n')
    assert [row.where for row in read_rows(path)] == [f"{path}:3", f"{path}:4"]


def test_rows_come_before_the_end_of_the_file_is_read(tmp_path):
    path = write(tmp_path / "x.jsonl", '{"a": 1}\n{"a": 2}\nno JSON\n')
    assert [row.fields for row in itertools.islice(read_rows(path), 2)] == [{"a": 1}, {"a": 2}]


def test_an_empty_cell_and_a_null_say_nothing_in_every_format(tmp_path):
    records = [{"id": None, "text": "x"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([*records, *RECORDS]), tmp_path / "x.parquet")
    assert fields_of(tmp_path / "x.parquet")[:1] == records
    for suffix in TEXT_FORMATS:
        assert fields_of(write(tmp_path / f"x.{suffix}", encoded(records, suffix))) == records


def test_missing_file_is_named(tmp_path):
    assert fault_of(tmp_path / "x.jsonl") == f"{tmp_path / 'x.jsonl'}: no such file"


def test_empty_folder_is_refused(tmp_path):
    assert fault_of(tmp_path) == f"{tmp_path}: the folder is empty, need at least one record"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", b""),
        ("x.jsonl", b"\n \n"),
        ("x.jsonl.gz", b""),
        ("x.jsonl.gz", gzip.compress(b"", mtime=0)),
        ("x.json", b""),
        ("x.json", b"[]"),
        ("x.csv", b""),
        ("x.csv", b"id,text\n"),
        ("x.tsv", b"id\ttext\n"),
    ],
)
def test_file_without_a_record_is_refused(tmp_path, name, content):
    assert (
        fault_of(write(tmp_path / name, content)) == f"{tmp_path / name}: the file is empty, need at least one record"
    )


def test_parquet_without_a_row_is_refused(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), tmp_path / "x.parquet")
    assert "the file is empty" in fault_of(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("name", "content", "where", "fault"),
    [
        ("x.jsonl", '{"a": 1}\n{"a": \n', ":2", "no JSON"),
        ("x.jsonl", '{"a": 1}\n\nhello\n', ":3", "no JSON (Expecting value at column 1): 'hello'"),
        ("x.jsonl", '{"a": 1}\n[1]\n', ":2", "got a JSON list, need an object"),
        ("x.jsonl", "null\n", ":1", "got a JSON NoneType, need an object"),
        ("x.jsonl", '{"a": 1}\n' + "[" * 100_000, ":2", "JSON nested too deep"),
        ("x.jsonl", '{"a": ' + "1" * 5000 + "}\n", ":1", "no JSON that can be read"),
        ("x.json", '[\n{"a": 1},\n{"a": oops}\n]', ":3", "no JSON (Expecting value at column 7): '{\"a\": oops}'"),
        ("x.json", '{"a": 1}', "", "got a JSON dict, need an array of objects"),
        ("x.json", '[{"a": 1}, 2]', ": row 2", "got a JSON int, need an object"),
        ("x.jsonl", b'{"a": 1}\n{"a": 2}\n{"a": "\xff"}\n', ":3", "no valid UTF-8 at byte 7 of the line"),
        ("x.json", b'[{"a": 1},\n"\xc3\x28"]', ":2", "no valid UTF-8"),
        ("x.csv", b"a,b\n1,2\n\xe9,2\n", ":3", "no valid UTF-8"),
        ("x.csv", "a,b\n1,2\n1\n", ":3", "got a row of another length than the header's 2"),
        ("x.csv", "a,b\n1,2,3\n", ":2", "got a row of another length than the header's 2"),
        ("x.tsv", "a\tb\n1,2\n", ":2", "got a row of another length than the header's 2"),
        ("x.csv", 'a,b\n1,2\n"1,2\n', ":3", "no valid CSV"),
        ("x.csv", 'a,b\n"1"x,2\n', ":2", "no valid CSV"),
        ("x.txt", "hello", "", "got a file of type '.txt', need one of .jsonl"),
        ("x", "hello", "", "got a file of type 'none'"),
        ("x.txt.gz", "hello", "", "got a file of type '.txt'"),
        ("x.parquet", "hello", "", "no valid Parquet file"),
        ("x.jsonl.gz", "hello", "", "damaged gzip file after line 0"),
    ],
)
def test_fault_is_reported_with_its_place(tmp_path, name, content, where, fault):
    message = fault_of(write(tmp_path / name, content))
    assert message.startswith(f"{tmp_path / name}{where}: ")
    assert fault in message


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
def test_truncated_gzip_is_refused(tmp_path, suffix):
    packed = gzip.compress(encoded(RECORDS * 50, suffix))
    message = fault_of(write(tmp_path / f"x.{suffix}.gz", packed[:-20]))
    assert message.startswith(f"{tmp_path / f'x.{suffix}.gz'}: damaged gzip file after line ")


def test_gzip_with_a_flipped_byte_is_refused(tmp_path):
    packed = bytearray(gzip.compress(encoded(RECORDS * 50, "jsonl")))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(InputError):
        list(read_rows(write(tmp_path / "x.jsonl.gz", bytes(packed))))


def test_columns_are_read_under_our_names(tmp_path):
    path = write(tmp_path / "x.csv", "key,body,rest\n1,hello,z\n")
    assert fields_of(path, {"id": "key", "text": "body"}) == [{"id": "1", "text": "hello", "rest": "z"}]


def test_a_mapped_column_displaces_the_files_own_of_that_name(tmp_path):
    for record in ({"text": "title", "body": "wanted"}, {"body": "wanted", "text": "title"}):
        path = write(tmp_path / "x.jsonl", json.dumps(record))
        assert fields_of(path, {"text": "body"}) == [{"text": "wanted"}]


def test_columns_may_be_swapped_and_one_column_may_serve_twice(tmp_path):
    path = write(tmp_path / "x.csv", "a,b\n1,2\n")
    assert fields_of(path, {"a": "b", "b": "a"}) == [{"a": "2", "b": "1"}]
    assert fields_of(path, {"group": "a", "category": "a"}) == [{"b": "2", "group": "1", "category": "1"}]


def test_a_mapped_column_that_is_not_there_is_refused_with_what_is(tmp_path):
    path = write(tmp_path / "x.csv", "a,b\n1,2\n")
    assert fault_of(path, {"text": "body"}) == f"{path}:2: no column 'body', got 'a', 'b'"


def test_a_mapped_column_may_be_empty_in_the_first_row(tmp_path):
    path = write(tmp_path / "x.csv", "text,topic\nhello,\nworld,planets\n")
    assert [fields["group"] for fields in fields_of(path, {"group": "topic"})] == [None, "planets"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("test-seen.jsonl.gz", "test-seen"),
        ("test-seen.jsonl", "test-seen"),
        ("a.b.csv", "a.b"),
        ("pairs.v2.parquet", "pairs.v2"),
        ("notes.txt", "notes.txt"),
        ("plain", "plain"),
        ("x.ndjson", "x"),
        ("x.tsv.gz", "x"),
        ("x.json", "x"),
    ],
)
def test_bare_name_has_no_known_suffix(tmp_path, name, expected):
    assert bare_name(tmp_path / name) == expected
