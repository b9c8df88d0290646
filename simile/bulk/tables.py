"""The input of bulk work: what each file holds, where its shards begin, and a shard's rows block by block.

A shard is a range of the rows of one file. Where it begins follows from the file and the number of rows per shard, so
every process that looks at the file finds the same shards. A text file is read once as a whole for that, because only a
reader knows where a row of CSV ends; its rows are checked meanwhile, before any is computed.
"""

import gzip
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from simile.artifacts.delimited import delimited_rows, require_unique
from simile.artifacts.json_rows import json_line_rows
from simile.artifacts.pairs import NEED_TEXTS, text_names
from simile.artifacts.reading import FORMATS
from simile.artifacts.rows import Format, LineRange, Part, ReadOptions, Row, has_byte_lines
from simile.bulk.kinds import Kind, schema_of, table_of, widen
from simile.bulk.storage import Stored, is_url, storage_of
from simile.errors import InputError
from simile.text_input import text_fault

BLOCK_ROWS = 8192
"""Rows that are in memory at once. Sorting so many texts by length leaves little padding in their batches."""
_BLOCK_BYTES = 32 << 20
"""Size of a block's rows at which it ends early: texts may be whole documents."""
_BUFFER_BYTES = 1 << 20
_PARQUET_FAILURES = (pa.ArrowException, OSError, ValueError, LookupError, TypeError)
Columns = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """How the input is read."""

    texts: Columns
    """Our names of the columns that hold the texts: ``("text",)``, or ``("text_a", "text_b")``."""
    columns: Mapping[str, str]
    """The file's column name by our field name, where they differ."""
    options: ReadOptions
    rows_per_shard: int


@dataclass(frozen=True, slots=True)
class Table:
    """One file of the input."""

    file: Stored
    name: str
    """Its name among the inputs, by which its parts are named."""
    format: Format
    options: ReadOptions
    schema: pa.Schema
    texts: Columns
    """The file's own names of the columns that hold the texts."""
    num_rows: int
    kinds: Mapping[str, Kind]
    """The columns of a text file."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A range of the rows of one file, which one worker computes as a whole."""

    table: Table
    number: int
    first_row: int
    num_rows: int
    start: int = 0
    """Position of its first line in a text file, decompressed."""
    stop: int | None = None

    @property
    def part(self) -> str:
        """The name of its part file."""
        return f"{self.table.name}.{self.number:05d}.parquet"


def read_tables(
    files: Sequence[Stored], reading: Reading, on_rows: Callable[[int], None]
) -> Iterator[tuple[Table, list[Shard]]]:
    """Yield each file with its shards; ``on_rows`` is called with the number of text rows that were read.

    Raises:
        InputError: a file is of no format that can be read in blocks, lacks a text, or cannot be read.
    """
    for file, name in zip(files, _names(files), strict=True):
        format_ = _format(file, reading.options)
        shards: list[Shard] = []
        if format_ == "parquet":
            table = _parquet_table(file, name, reading)
            firsts = range(0, table.num_rows, reading.rows_per_shard)
            shards = [
                Shard(table, number, first, min(reading.rows_per_shard, table.num_rows - first))
                for number, first in enumerate(firsts)
            ]
        else:
            table, positions = _text_table(file, name, format_, reading, on_rows)
            for number, start in enumerate(positions):
                first = number * reading.rows_per_shard
                is_last = number == len(positions) - 1
                num_rows, stop = (
                    (table.num_rows - first, None) if is_last else (reading.rows_per_shard, positions[number + 1])
                )
                shards.append(Shard(table, number, first, num_rows, start, stop))
        if not shards:
            raise InputError(f"{file.address}: the file is empty, need at least one record")
        yield table, shards


def blocks(shard: Shard) -> Iterator[pa.Table]:
    """Yield the shard's rows with all columns of the file, `BLOCK_ROWS` at a time."""
    return _parquet_blocks(shard) if shard.table.format == "parquet" else _text_blocks(shard)


def _names(files: Sequence[Stored]) -> list[str]:
    """Return the paths of the files below the folder that holds them all, with ``--`` between folders."""
    folders = [file.address.split("/")[:-1] for file in files]
    shared = 0
    while all(len(folder) > shared and folder[shared] == folders[0][shared] for folder in folders):
        shared += 1
    names = ["--".join(file.address.split("/")[shared:]) for file in files]
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise InputError(f"got two inputs whose parts would be named {twice!r}, need other names of folders or files")
    return names


def _format(file: Stored, options: ReadOptions) -> Format:
    suffix = Path(file.name.lower().removesuffix(".gz")).suffix
    chosen = options.format or FORMATS.get(suffix)
    if chosen in ("jsonl", "csv", "tsv") or (chosen == "parquet" and not file.name.lower().endswith(".gz")):
        return chosen
    need = "need .parquet, .jsonl, .csv, .tsv or .gz of the last three (or --format)"
    raise InputError(f"{file.address}: got a file of type {Path(file.name).suffix or 'none'!r}, {need}")


def _text_columns(names: Sequence[str], reading: Reading, where: str) -> Columns:
    """Return the file's own names of the columns that hold the texts.

    A file that has our name of a column, and not that in ``--column``, is read by ours.
    """
    theirs = {ours: column for ours, column in reading.columns.items() if column in names or ours not in names}
    if missing := next((column for column in theirs.values() if column not in names), None):
        raise InputError(f"{where}: no column {missing!r}, got {', '.join(map(repr, names)) or 'none'}")
    renamed = {*names, *theirs}
    ours = text_names(renamed) if len(reading.texts) == 2 else ("text",) if "text" in renamed else None
    if ours is None:
        need = NEED_TEXTS if len(reading.texts) == 2 else "need 'text' (or --column text=NAME)"
        raise InputError(f"{where}: got fields {', '.join(map(repr, names)) or 'none'}, {need}")
    return tuple(theirs.get(name, name) for name in ours)


def _opened(file: Stored) -> IO[bytes]:
    """Open a text file, decompressed."""
    if not file.name.lower().endswith(".gz"):
        return storage_of(file.address).opened(file.address)
    # A path is closed together with what is read of it; an object has nothing to close.
    packed: Any = storage_of(file.address).opened(file.address) if is_url(file.address) else file.address
    return cast(IO[bytes], io.BufferedReader(cast(io.RawIOBase, gzip.open(packed))))


def _text_rows(part: Part, options: ReadOptions) -> Iterator[Row]:
    return json_line_rows(part, options) if part.format == "jsonl" else delimited_rows(part, options)


def _text_table(
    file: Stored, name: str, format_: Format, reading: Reading, on_rows: Callable[[int], None]
) -> tuple[Table, list[int]]:
    """Return what a text file holds, and the positions at which its shards begin; check its texts on the way."""
    raw = _opened(file)
    # Where a line break has several bytes, lines have no positions, and the file is one shard.
    lines = LineRange(raw) if has_byte_lines(reading.options.encoding) else None
    part = Part(file.address, Path(), format_, lambda: lines or raw)
    kinds: dict[str, Kind] = {}
    texts: Columns = ()
    positions, position, num_rows = [0], 0, 0
    for row in _text_rows(part, reading.options):
        texts = texts or _text_columns([*row.fields], reading, row.where)
        if lines and num_rows and num_rows % reading.rows_per_shard == 0:
            positions.append(position)
        for column in texts:
            if column not in row.fields:
                raise InputError(f"{row.where}: no column {column!r}, got {row.names}")
            _require_text(row.fields[column], column, row.where)
        if format_ == "jsonl":
            widen(kinds, row.fields, row.where)
        else:
            kinds = kinds or dict.fromkeys(row.fields, "text")
        num_rows += 1
        position = lines.position if lines else 0
        on_rows(1)
    table = Table(file, name, format_, reading.options, schema_of(kinds), texts, num_rows, kinds)
    return table, positions if num_rows else []


def _text_blocks(shard: Shard) -> Iterator[pa.Table]:
    table = shard.table
    options = table.options
    raw = _opened(table.file)
    is_cut = has_byte_lines(options.encoding)
    lines: Any = LineRange(raw, shard.start, shard.stop) if is_cut else raw
    header = tuple(table.kinds) if shard.start and table.format != "jsonl" else ()
    part = Part(table.file.address, Path(), table.format, lambda: lines, header)
    rows = islice(_text_rows(part, options), shard.num_rows)
    for block in _row_blocks(row.fields for row in rows):
        yield table_of(block, table.kinds, f"{table.file.address}: shard {shard.number}")


def _row_blocks(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    block: list[Mapping[str, Any]] = []
    num_characters = 0
    for row in rows:
        block.append(row)
        num_characters += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(block) == BLOCK_ROWS or num_characters >= _BLOCK_BYTES:
            yield block
            block, num_characters = [], 0
    if block:
        yield block


@contextmanager
def _open_parquet(file: Stored) -> Iterator[pq.ParquetFile]:
    """Open the file so that its pages are read one after the other: by default, all of a row group are in memory."""
    options: Any = {"pre_buffer": False, "buffer_size": _BUFFER_BYTES}
    if is_url(file.address):
        with storage_of(file.address).opened(file.address) as opened, pq.ParquetFile(opened, **options) as parquet:
            yield parquet
    else:
        with pq.ParquetFile(file.address, **options) as parquet:
            yield parquet


def _parquet_table(file: Stored, name: str, reading: Reading) -> Table:
    try:
        with _open_parquet(file) as parquet:
            schema, num_rows = parquet.schema_arrow.remove_metadata(), parquet.metadata.num_rows
    except _PARQUET_FAILURES as error:
        raise InputError(f"{file.address}: no valid Parquet file ({error})") from error
    require_unique(schema.names, file.address)
    texts = _text_columns(schema.names, reading, file.address)
    return Table(file, name, "parquet", reading.options, schema, texts, num_rows, {})


def _parquet_blocks(shard: Shard) -> Iterator[pa.Table]:
    """Yield the rows of the row groups that overlap the shard, without those before and behind it."""
    file, first = shard.table.file, shard.first_row
    stop = first + shard.num_rows
    try:
        with _open_parquet(file) as parquet:
            described = [parquet.metadata.row_group(group) for group in range(parquet.num_row_groups)]
            ends = [*accumulate(group.num_rows for group in described)]
            groups = [n for n, end in enumerate(ends) if first < end and end - described[n].num_rows < stop]
            position = ends[groups[0]] - described[groups[0]].num_rows
            row_bytes = max(described[n].total_byte_size / max(1, described[n].num_rows) for n in groups)
            block_rows = min(BLOCK_ROWS, int(_BLOCK_BYTES / max(1, row_bytes)) + 1)
            for batch in parquet.iter_batches(block_rows, row_groups=groups):
                low, high = max(first - position, 0), min(stop - position, len(batch))
                position += len(batch)
                if low < high:
                    yield pa.Table.from_batches([batch.slice(low, high - low)]).replace_schema_metadata(None)
    except _PARQUET_FAILURES as error:
        raise InputError(f"{file.address}: no valid Parquet file ({error})") from error


def row_texts(shard: Shard, block: pa.Table, first: int) -> list[list[str]]:
    """Return the texts of the block by column, whose first row is the file's row ``first`` (from 0).

    Raises:
        InputError: a value is no text, with the row's number.
    """
    columns = []
    for name in shard.table.texts:
        rows = enumerate(block.column(name).to_pylist(), first + 1)
        columns.append([_require_text(value, name, f"{shard.table.file.address}: row {n}") for n, value in rows])
    return columns


def _require_text(value: Any, name: str, where: str) -> str:
    """Return the text; the message about a value that is none does not quote it, because bulk work is logged."""
    try:
        # Some writers of Parquet do not mark strings as text.
        text = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: column {name!r}: got bytes that are no UTF-8, need a non-empty text") from error
    if fault := text_fault(text):
        raise InputError(f"{where}: column {name!r}: {fault}")
    return str(text)
