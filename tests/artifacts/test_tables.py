"""Tables as people have them: other delimiters, encodings and forms of JSON, Parquet of all kinds, folders, pipes."""

import csv
import datetime
import decimal
import gzip
import io
import json
import os
import sys
import threading
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simile.artifacts import open_source, read_documents, read_labelled_pairs, read_pairs, source_sha256
from simile.artifacts.reading import read_rows
from simile.artifacts.rows import ReadOptions
from simile.errors import InputError
from simile.files import sha256_bytes, sha256_file

ROWS = [{"text_a": "a b", "text_b": "c d", "label": "1"}, {"text_a": "e f", "text_b": "g h", "label": "0"}]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
BAD_UTF8 = pa.StringArray.from_buffers(2, pa.py_buffer(np.array([0, 4, 7], np.int32)), pa.py_buffer(b"caf\xe9abc"))


def write(path, content: bytes | str):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def written(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def fields_of(path, **options):
    return [row.fields for row in read_rows(path, options=ReadOptions(**options))]


def fault_of(path, read=fields_of, **options) -> str:
    with pytest.raises(InputError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


# The same table in every format.

cells = st.text(st.characters(codec="utf-8"), min_size=1) | st.sampled_from(
    ['"', '""', '"a"', "a,b", "a;b", "'", "\\t"]
)
tables = st.lists(
    st.fixed_dictionaries(dict.fromkeys(("id", "text", "group"), st.none() | cells)), min_size=1, max_size=4
)


@given(tables)
def test_table_is_the_same_in_every_format(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("table")
    names = ["id", "text", "group"]
    for suffix, delimiter in (("csv", ","), ("CSV", ","), ("tsv", "\t")):
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, names, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(table)
        options = {"quote": '"'} if suffix == "tsv" else {}
        assert fields_of(write(folder / f"x.{suffix}", buffer.getvalue()), **options) == table
    records = [json.dumps(row, ensure_ascii=False) for row in table]
    array, by_column = f"[{','.join(records)}]", json.dumps({name: [row[name] for row in table] for name in names})
    for name, content in (
        ("lines.jsonl", "\n".join(records)),
        ("lines.json", "\n".join(records) if len(records) > 1 else array),
        ("array.json", array),
        ("array.jsonl", json.dumps(table, indent=1)),
        ("columns.json", by_column),
    ):
        assert fields_of(write(folder / name, content)) == table
    schema = pa.schema([(name, pa.string()) for name in names])
    pq.write_table(pa.Table.from_pylist(table, schema), folder / "x.parquet")
    assert fields_of(folder / "x.parquet") == table
    assert fields_of(write(folder / "x.parquet.gz", gzip.compress((folder / "x.parquet").read_bytes()))) == table


plain_cells = st.text(st.characters(codec="utf-8", exclude_characters="\t\r\n"), min_size=1) | st.sampled_from(
    ['"', '"a"']
)


@given(st.lists(st.fixed_dictionaries({"id": plain_cells, "text": plain_cells}), min_size=1, max_size=4))
def test_tsv_has_no_quotes(tmp_path_factory, table):
    lines = ["id\ttext", *(f"{row['id']}\t{row['text']}" for row in table)]
    assert fields_of(write(tmp_path_factory.mktemp("table") / "x.tsv", "\n".join(lines) + "\n")) == table


# Delimited files.


def test_quotation_marks_of_a_tsv_swallow_no_rows(tmp_path):
    content = 'text_a\ttext_b\tlabel\n"Yes, it came.\tHere.\t1\nWhere?\tDown.\t0\nHe said it"\tLate.\t1\n'
    pairs = read_labelled_pairs(write(tmp_path / "x.tsv", content))
    assert [row.text_a for row in pairs.rows] == ['"Yes, it came.', "Where?", 'He said it"']


def test_delimiter_quote_and_encoding_are_as_told(tmp_path):
    content = "text_a;text_b;label\r\n'a;b';é;1\r\n"
    expected = [{"text_a": "a;b", "text_b": "é", "label": "1"}]
    for encoding in ("cp1252", "utf-16", "utf-16-le", "utf-32", "mac-roman"):
        path = write(tmp_path / "x.csv", content.encode(encoding))
        assert fields_of(path, delimiter=";", quote="'", encoding=encoding) == expected
    path = write(tmp_path / "x.txt", gzip.compress("text\té\n".encode("latin-1")))
    assert fault_of(path).startswith(": got a file of type '.txt'")
    path = write(tmp_path / "x.txt", "a\tb\n1\t2\n")
    assert fields_of(path, format="tsv") == fields_of(path, format="csv", delimiter="\t") == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("x.csv", "text_a;text_b;label\na;b;1\n", ":1: got one column named 'text_a;text_b;label', need commas"),
        ("x.csv", "text_a;text_b;label\na;b;1\n", "--delimiter semicolon"),
        ("x.csv", "sep=;\ntext_a;text_b\na;b\n", "--delimiter semicolon"),
        ("x.csv", "text_a\ttext_b\na\tb\n", "--delimiter tab"),
        ("x.csv", "text_a|text_b\na|b\n", "--delimiter pipe"),
        ("x.tsv", "text_a,text_b\na,b\n", "--delimiter comma"),
        ("x.csv", '"text_a";"text_b"\n"a";"b"\n', "another layout needs --delimiter, --quote"),
        ("x.tsv", '"text_a"\t"text_b"\n"a"\t"b"\n', ":1: got column names in quotes, need --quote '\"'"),
        (
            "x.tsv",
            'text_a\ttext_b\n"a\tb"\tc\n',
            ":2: got a row of another length than the header's 2 (cells in quotes",
        ),
        ("x.csv", "text_a,text_b,text_b\na,b,c\n", ":1: got two columns named 'text_b', need unique names"),
        ("x.csv", "text_a,text_b\na,b\n".encode("utf-16"), ": got UTF-16, need UTF-8 or --encoding utf-16"),
        ("x.jsonl", '{"a": 1}\n'.encode("utf-16-be"), ":1: got NUL characters, need text (UTF-16 needs --encoding"),
        ("x.csv", b"text_a,text_b\ncaf\xe9,b\n", ":2: no valid UTF-8 at byte 3 of the line, need --encoding if it is"),
    ],
)
def test_other_layout_is_named_with_the_option_that_reads_it(tmp_path, name, content, fault):
    assert fault in fault_of(write(tmp_path / name, content))


def test_encoding_that_does_not_fit_is_named(tmp_path):
    path = write(tmp_path / "x.csv", "a,b\n1,2\n")
    assert fault_of(path, encoding="utf-16").startswith(": no valid UTF-16 (")
    assert fault_of(write(path, "a,b\n1,é\n"), encoding="ascii").startswith(":2: no valid ASCII at byte 2 of the line")


def test_first_line_of_excel_is_no_header(tmp_path):
    assert fields_of(write(tmp_path / "x.csv", "sep=;\na;b\n1;2\n"), delimiter=";") == [{"a": "1", "b": "2"}]


def test_quoted_cell_of_a_tsv_is_noted(tmp_path, capsys):
    path = write(tmp_path / "x.tsv", 'text\tgroup\nplain\tg\n"quoted"\tg\n"again"\tg\n')
    assert [row["text"] for row in fields_of(path)] == ["plain", '"quoted"', '"again"']
    note = f"{path}:3: got a cell in quotes, which are read as a part of it (--quote '\"' removes them)\n"
    assert capsys.readouterr().err == note
    fields_of(path, quote="")
    assert capsys.readouterr().err == ""


def test_columns_without_a_name_do_no_harm(tmp_path):
    path = write(tmp_path / "x.csv", "\ufeff,text,,\n0,a,,7\n")
    assert fields_of(path) == [{"": "0", "text": "a", "column 3": None, "column 4": "7"}]


# JSON.


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", "\n".join(map(json.dumps, ROWS))),
        ("x.json", "\ufeff" + "\n\n".join(map(json.dumps, ROWS))),
        ("x.jsonl", json.dumps(ROWS)),
        ("x.jsonl", json.dumps(ROWS, indent=2)),
        ("x.ndjson", "\n" + json.dumps(ROWS, indent=2)),
        ("x.json", json.dumps(COLUMNS)),
        ("x.json", json.dumps(COLUMNS, indent=2)),
        ("x.jsonl", json.dumps(COLUMNS)),
        ("x.json", json.dumps({name: dict(enumerate(values)) for name, values in COLUMNS.items()})),
        ("x.json", json.dumps({"columns": list(COLUMNS), "index": [0, 1], "data": [[*row.values()] for row in ROWS]})),
        ("x.json", json.dumps({"columns": list(COLUMNS), "data": [[*row.values()] for row in ROWS]}, indent=1)),
    ],
)
def test_form_of_json_is_seen_in_the_content(tmp_path, name, content):
    assert fields_of(write(tmp_path / name, content)) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        (
            "x.json",
            json.dumps(dict(enumerate(ROWS))),
            ": got a JSON dict, need an array of objects, an object per line",
        ),
        ("x.json", json.dumps({"data": ROWS, "version": 1}), ": got a JSON dict"),
        ("x.json", json.dumps({"text_a": ["a"], "text_b": ["b", "c"]}), ": got a JSON dict"),
        ("x.json", json.dumps([["a", "b"]]), ": row 1: got a JSON list, need an object"),
        ("x.json", json.dumps({"columns": ["a", "a"], "data": [[1, 2]]}), ": got two columns named 'a'"),
        ("x.jsonl", "[1, 2]\n[3, 4]\n", ":1: got a JSON list, need an object"),
        ("x.jsonl", '{"a": 1}\n{"b": 1, "c": 2, "b": 3}\n', ":2: got the key 'b' twice in one object"),
        ("x.json", '[{"a": 1},\n{"b": 1, "b": 3}]\n', ": got the key 'b' twice in one object"),
        ("x.jsonl", '{"a": {"b": 1, "b": 3}}\n', ":1: got the key 'b' twice in one object"),
        ("x.jsonl", '{"a": 1\n{"a": 2}\n', ":1: no JSON (Expecting ',' delimiter at column 8): '{\"a\": 1'"),
        ("x.jsonl", "[" * 100_000, ":1: JSON nested too deep"),
    ],
)
def test_json_that_is_no_table_is_refused_with_its_place(tmp_path, name, content, fault):
    assert fault_of(write(tmp_path / name, content)).startswith(fault)


# Parquet.


def test_columns_that_are_not_used_are_not_read(tmp_path):
    number = 20_000
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(number * 64, np.float32)), 64)
    far = pa.array([2**62, *range(number - 1)], pa.timestamp("us"))
    zone = pa.array([0] * number, pa.timestamp("us", "Mars/Olympus"))
    bad = pa.concat_arrays([BAD_UTF8, pa.array(["x"] * (number - 2))])
    path = written(tmp_path / "x.parquet", text=["a text"] * number, embedding=embedding, far=far, zone=zone, bad=bad)
    tracemalloc.start()
    assert sum(1 for _ in read_documents(path)) == number
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
    assert "'text', 'embedding', 'far'" in fault_of(path, read_pairs)


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (pa.array(["a", "b"]).dictionary_encode(), pa.array([1, 0], pa.int8())),
        (pa.array(["a", "b"], pa.large_string()), pa.array([True, False])),
        (pa.array(["a", "b"], pa.string_view()), pa.array([1.0, 0.0])),
        (pa.array([b"a", b"b"], pa.binary()), pa.array([decimal.Decimal("1.00"), decimal.Decimal("0.00")])),
        (pa.array(["a", "b"]), pa.array(["True", "false"])),
    ],
)
def test_texts_and_labels_of_any_type_are_read(tmp_path, texts, labels):
    rows = read_labelled_pairs(written(tmp_path / "x.parquet", text_a=texts, text_b=texts, label=labels)).rows
    assert [(row.text_a, row.text_b, row.label) for row in rows] == [("a", "a", 1), ("b", "b", 0)]


def test_parquet_that_cannot_be_read_is_refused_in_one_line(tmp_path):
    texts = [f"text {i} of many" for i in range(5000)]
    path = written(tmp_path / "x.parquet", text_a=BAD_UTF8, text_b=["a", "b"])
    assert fault_of(path, read_pairs).startswith(": row 1: column 'text_a' cannot be read ('utf-8'")
    path = written(
        tmp_path / "x.parquet", text_a=["a"], text_b=["b"], group_a=pa.array([0], pa.timestamp("us", "No/Zone"))
    )
    assert fault_of(path, read_pairs).startswith(": row 1: column 'group_a' cannot be read (")
    path = written(tmp_path / "x.parquet", text_a=["a"], text_b=["b"], group_a=pa.array([2**60], pa.timestamp("us")))
    assert fault_of(path, read_pairs).startswith(": row 1: column 'group_a' cannot be read (")
    content = bytearray(written(tmp_path / "x.parquet", text_a=texts, text_b=texts).read_bytes())
    assert fault_of(write(path, content[:-100]), read_pairs).startswith(": no valid Parquet file (")
    for start in range(4, len(content) - 400, len(content) // 20):
        damaged = content[:]
        damaged[start : start + 8] = b"\xff" * 8
        # Some bytes are not even looked at, such as statistics.
        with suppress(InputError):
            read_pairs(write(path, damaged))
    encrypted = write(path, b"PARE" + bytes(content[4:-4]) + b"PARE")
    assert fault_of(encrypted, read_pairs).startswith(": no valid Parquet file (")
    packed = gzip.compress(bytes(content))
    assert fault_of(write(tmp_path / "x.parquet.gz", packed[:-20]), read_pairs).startswith(": damaged gzip file (")


def test_parquet_column_names_that_occur_twice_are_refused(tmp_path):
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 3, ["text_a", "text_b", "text_b"]), tmp_path / "x.parquet")
    assert fault_of(tmp_path / "x.parquet", read_pairs) == ": got two columns named 'text_b', need unique names"


def test_values_that_cannot_be_read_are_skipped_where_asked_for(tmp_path, capsys):
    days = pa.array([2**30, 1], pa.date32())
    path = written(tmp_path / "x.parquet", text=["a", "b"], day=days, note=BAD_UTF8)
    with open_source(path) as source:
        rows = [row.fields for row in source.rows(skip_bad=True)]
    assert rows[0] == {"text": "a", "day": None, "note": None}
    assert rows[1] == {"text": "b", "day": datetime.date(1970, 1, 2), "note": "abc"}
    assert f"{path}: column 'day': 1 values cannot be read" in capsys.readouterr().err


def test_many_row_groups_take_the_memory_of_one(tmp_path):
    texts = [f"{i} {'word ' * 200}" for i in range(20_000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet", row_group_size=1000, compression="none")
    tracemalloc.start()
    assert sum(1 for _ in read_rows(tmp_path / "x.parquet")) == len(texts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12_000_000


# Folders, pipes, standard input.


def test_folder_is_read_in_the_order_of_its_names(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    for name, row in (("part-1.JSONL", ROWS[1]), ("part-0.ndjson", ROWS[0]), ("part-2.jsonl", None)):
        write(folder / name, json.dumps(row) + "\n" if row else "")
    for name in ("_SUCCESS", ".part-0.crc", "_metadata"):
        write(folder / name, "x")
    rows = [*read_rows(folder)]
    assert [row.fields for row in rows] == ROWS
    assert [row.where for row in rows] == [f"{folder / 'part-0.ndjson'}:1", f"{folder / 'part-1.JSONL'}:1"]
    hashes = [sha256_file(folder / name) for name in ("part-0.ndjson", "part-1.JSONL", "part-2.jsonl")]
    pairs = read_labelled_pairs(folder)
    assert (pairs.name, pairs.sha256) == ("parts", sha256_bytes("".join(f"{one}\n" for one in hashes).encode()))
    assert source_sha256(folder) == pairs.sha256
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "part-3.parquet")
    assert fault_of(folder) == ": got files of the formats jsonl, parquet, need one format"
    (folder / "part-3.parquet").unlink()
    (folder / "more").mkdir()
    assert fault_of(folder) == "/more: is no file, need a folder of files only"


def test_folder_of_parquet_files_is_one_table(tmp_path):
    for i, row in enumerate(ROWS):
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / f"part-{i}.parquet")
    assert fields_of(tmp_path) == ROWS
    write(tmp_path / "notes.txt", "x")
    with pytest.raises(InputError, match=r"notes\.txt: got a file of type '\.txt'"):
        fields_of(tmp_path)


@pytest.mark.parametrize("path", ["-", "/dev/stdin"])
def test_standard_input_is_json_lines_unless_told(tmp_path, monkeypatch, path):
    def given(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    given(lines)
    pairs = read_labelled_pairs(Path(path))
    assert (pairs.name, len(pairs.rows), pairs.sha256) == ("stdin", 2, sha256_bytes(lines))
    given(b"a;b\n1;2\n")
    assert fields_of(Path(path), format="csv", delimiter=";") == [{"a": "1", "b": "2"}]
    given(b"{}\nx\n")
    with pytest.raises(InputError, match=r"^stdin:2: no JSON"):
        fields_of(Path(path))
    given(b"")
    with pytest.raises(InputError, match="the file is empty"):
        fields_of(Path(path))


def test_pipe_is_read_once(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    writer = threading.Thread(target=path.write_text, args=(lines,))
    writer.start()
    pairs = read_labelled_pairs(path, columns={"label": "same"})
    writer.join()
    assert (len(pairs.rows), pairs.sha256) == (2, sha256_bytes(lines.encode()))


def test_what_is_no_file_is_refused(tmp_path):
    assert fault_of(tmp_path / "gone.csv") == ": no such file"
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    assert fault_of(tmp_path / "loop.csv").startswith(": cannot be read (")
    assert fault_of(tmp_path / f"{'a' * 5000}.csv").startswith(": cannot be read (")
    with pytest.raises(InputError, match="/dev/zero: is a device"):
        fields_of(Path("/dev/zero"))


# Labels.


def test_words_are_labels_where_it_is_said(tmp_path, capsys):
    words = ["Duplicate", " entailment", "neutral", "neutral", "contradiction", "1", "true", "0"]
    lines = "".join(json.dumps({"text_a": "a", "text_b": "b", "label": word}) + "\n" for word in words)
    path = write(tmp_path / "x.jsonl", lines)
    positive = frozenset(["duplicate", "entailment"])
    pairs = read_labelled_pairs(path, options=ReadOptions(positive=positive))
    assert [row.label for row in pairs.rows] == [1, 1, 0, 0, 0, 1, 1, 0]
    note = f"{path}: labels that --label does not list are read as negative: 'neutral' (2), 'contradiction' (1)"
    assert note in capsys.readouterr().err
    assert pairs.sha256 not in (
        sha256_file(path),
        read_pairs(path, options=ReadOptions(positive=positive | {"x"})).sha256,
    )
    both = ReadOptions(positive=positive, negative=frozenset(["neutral"]))
    assert fault_of(path, lambda path: read_pairs(path, options=both)).startswith(
        ":5: got label 'contradiction', need 0, 1"
    )


def test_numbers_are_labels_where_it_is_said(tmp_path):
    path = written(tmp_path / "x.parquet", text_a=["a", "b"], text_b=["c", "d"], label=[2.0, 0.0])
    assert [row.label for row in read_pairs(path, options=ReadOptions(positive=frozenset(["2"]))).rows] == [1, 0]


def test_score_of_simile_is_no_label(tmp_path):
    row = {"text_a": "a", "text_b": "b", "score": 0.5}
    path = write(tmp_path / "x.jsonl", json.dumps(row | {"probability": None}) + "\n")
    assert read_pairs(path).rows[0].target is None
    assert "not that of simile score" in fault_of(path, read_labelled_pairs)
    assert read_pairs(path, columns={"score": "score"}).rows[0].target == 0.5
    assert read_pairs(write(path, json.dumps(row) + "\n")).rows[0].target == 0.5


@pytest.mark.parametrize(
    "value",
    [
        {"columns": None, "data": None},
        {"columns": ["text_a", "text_b"], "data": 5},
        {"columns": 5, "data": [[1]]},
        {"columns": [["a"], ["b"]], "data": [["a", "b"]]},
    ],
)
def test_json_that_only_resembles_a_table_is_refused(tmp_path, value):
    assert fault_of(write(tmp_path / "x.json", json.dumps(value))).startswith(": got a JSON dict")


def test_column_without_a_name_keeps_its_cells(tmp_path):
    (row,) = fields_of(write(tmp_path / "x.csv", ",,column 2,text\n1,KEPT,3,x\n"))
    assert row == {"": "1", "column 2'": "KEPT", "column 2": "3", "text": "x"}
