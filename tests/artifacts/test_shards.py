import csv
import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simile.artifacts import Shard
from simile.artifacts.reading import read_rows
from simile.artifacts.rows import ReadOptions
from simile.errors import InputError

texts = st.lists(st.sampled_from(["a", "two words", "\u00e9t\u00e9", "two\nlines", "x" * 90]), min_size=1, max_size=12)


def write_files(folder, values):
    """Write the values as a table in every format, and return the files with how they are read."""
    rows = [{"text": text, "id": str(number)} for number, text in enumerate(values)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    cells = io.StringIO()
    writer = csv.DictWriter(cells, ["text", "id"])
    writer.writeheader()
    writer.writerows(rows)
    (folder / "x.jsonl").write_text(lines.replace("\n", "\n\n", 1).rstrip("\n"))
    (folder / "wide.jsonl").write_text(lines, encoding="utf-16")
    (folder / "x.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "x.json").write_text(json.dumps(rows))
    (folder / "x.csv").write_text(cells.getvalue())
    pq.write_table(pa.Table.from_pylist(rows), folder / "x.parquet", row_group_size=3)
    parts = folder / "parts"
    parts.mkdir()
    for number, row in enumerate(rows):
        (parts / f"{number:02}.jsonl").write_text(f"{json.dumps(row)}\n")
    (parts / "99.jsonl").touch()
    wide = {"wide.jsonl": ReadOptions(encoding="utf-16")}
    return [(path, wide.get(path.name, ReadOptions())) for path in folder.iterdir()]


@given(texts, st.integers(1, 5))
def test_shards_hold_each_row_once_and_follow_each_other(tmp_path_factory, values, count):
    for path, options in write_files(tmp_path_factory.mktemp("tables"), values):
        rows = list(read_rows(path, options=options))
        shards = [read_rows(path, options=options, shard=Shard(number, count)) for number in range(1, count + 1)]
        assert [row for shard in shards for row in shard] == rows, path.name


def test_shards_of_equal_lines_are_of_equal_size(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "some text"}\n' * 1000)
    assert [sum(1 for _ in read_rows(path, shard=Shard(number, 8))) for number in range(1, 9)] == [125] * 8


def test_a_shard_reads_the_files_and_row_groups_that_hold_it_only(tmp_path):
    pq.write_table(pa.table({"text": [f"{i} text" for i in range(4000)]}), tmp_path / "x.parquet", row_group_size=1000)
    content = bytearray((tmp_path / "x.parquet").read_bytes())
    # The first row group's pages begin after the magic bytes.
    content[4:400] = bytes(396)
    (tmp_path / "x.parquet").write_bytes(content)
    assert sum(1 for _ in read_rows(tmp_path / "x.parquet", shard=Shard(2, 2))) == 2000
    with pytest.raises(InputError, match="no valid Parquet file"):
        list(read_rows(tmp_path / "x.parquet", shard=Shard(1, 2)))


def test_a_fault_in_a_shard_is_named_by_its_line_in_the_file(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a"}\n' * 9 + "no JSON\n")
    assert sum(1 for _ in read_rows(path, shard=Shard(1, 2))) == 5
    with pytest.raises(InputError, match=r"x.jsonl:10: no JSON"):
        list(read_rows(path, shard=Shard(2, 2)))
