"""Rows of a JSONL, JSON, CSV, TSV or Parquet file, read one at a time; every `InputError` names the file and line."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from simile.errors import InputError

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_MAX_CSV_CELL = 2**31 - 1


class Row(NamedTuple):
    """One record of a file."""

    where: str
    """``file:line`` (or ``file: row n`` where the format has no lines)."""
    fields: dict[str, Any]
    """Values by column; None for an empty cell or a null."""

    @property
    def names(self) -> str:
        """The names of the fields, for a message."""
        return ", ".join(map(repr, self.fields)) or "none"


def bare_name(path: Path) -> str:
    """Return the file name without any known suffix: ``test-seen.jsonl.gz`` gives ``test-seen``."""
    name = Path(path.name.removesuffix(".gz"))
    return name.stem if name.suffix in FORMATS else name.name


def read_rows(path: Path, columns: Mapping[str, str] | None = None) -> Iterator[Row]:
    """Yield the rows of a file in order, streaming all formats but ``.json``.

    Args:
        path: the file; its suffix gives the format, and ``.gz`` is decompressed while it is read.
        columns: names of the file's columns by ours, where they differ, e.g. ``{"text": "body"}``.

    Raises:
        InputError: the file is missing, empty, of unknown format or not UTF-8, or a line is not a record.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    number = -1
    for number, row in enumerate(_rows_of(path)):
        yield _renamed(row, columns, is_first=number == 0) if columns else row
    if number < 0:
        raise InputError(f"{path}: the file is empty, need at least one record")


def require_text(row: Row, field: str) -> str:
    """Return the field's value if it is a non-blank text that UTF-8 can encode, and raise an `InputError` otherwise."""
    value = row.fields[field]
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{row.where}: got {field} {value!r:.60}, need a non-empty text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{row.where}: got {field} with half a surrogate pair at character {error.start}") from error
    return value


def _renamed(row: Row, columns: Mapping[str, str], *, is_first: bool) -> Row:
    """Return the row under our names, which replace columns of the file that already have such a name."""
    if is_first and (missing := next((theirs for theirs in columns.values() if theirs not in row.fields), None)):
        raise InputError(f"{row.where}: no column {missing!r}, got {row.names}")
    others = {name: value for name, value in row.fields.items() if name not in {*columns, *columns.values()}}
    return Row(row.where, others | {ours: row.fields.get(theirs) for ours, theirs in columns.items()})


def _rows_of(path: Path) -> Iterator[Row]:
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix in (".jsonl", ".ndjson"):
        return _jsonl_rows(path)
    if suffix == ".json":
        return _json_rows(path)
    if suffix in (".csv", ".tsv"):
        return _csv_rows(path, "\t" if suffix == ".tsv" else ",")
    if suffix == ".parquet":
        return _parquet_rows(path)
    need = f"need one of {', '.join(FORMATS)} (or .gz of it)"
    raise InputError(f"{path}: got a file of type {suffix or 'none'!r}, {need}")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines, decoded one by one so that an invalid byte is reported with its line."""
    number = 0
    try:
        with io.BufferedReader(gzip.open(path)) if path.name.endswith(".gz") else path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}:{number}: no valid UTF-8 at byte {error.start} of the line") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file after line {number} ({error})") from error


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for number, line in _lines(path):
        if line.strip():
            yield _record(_parse_json(line.rstrip(), path, number), f"{path}:{number}")


def _json_rows(path: Path) -> Iterator[Row]:
    values = _parse_json("".join(line for _, line in _lines(path)) or "[]", path, 1)
    if not isinstance(values, list):
        raise InputError(f"{path}: got a JSON {type(values).__name__}, need an array of objects")
    for number, value in enumerate(values, 1):
        yield _record(value, f"{path}: row {number}")


def _parse_json(text: str, path: Path, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{path}:{first_line + error.lineno - 1}"
        line = text.split("\n")[error.lineno - 1].strip()
        raise InputError(f"{where}: no JSON ({error.msg} at column {error.colno}): {line[:60]!r}") from error
    except RecursionError as error:
        raise InputError(f"{path}:{first_line}: JSON nested too deep") from error
    except ValueError as error:
        # Python refuses to parse whole numbers of thousands of digits.
        raise InputError(f"{path}:{first_line}: no JSON that can be read ({error})") from error


def _record(value: Any, where: str) -> Row:
    if isinstance(value, dict):
        return Row(where, value)
    raise InputError(f"{where}: got a JSON {type(value).__name__}, need an object")


def _csv_rows(path: Path, delimiter: str) -> Iterator[Row]:
    # The module's default limit is 131,072 characters per cell, and whole documents are longer.
    csv.field_size_limit(_MAX_CSV_CELL)
    reader = csv.DictReader((line for _, line in _lines(path)), delimiter=delimiter, strict=True)
    try:
        for fields in reader:
            where = f"{path}:{reader.line_num}"
            if None in fields or None in fields.values():
                num = len(reader.fieldnames or ())
                raise InputError(f"{where}: got a row of another length than the header's {num}")
            yield Row(where, {name: value or None for name, value in fields.items()})
    except csv.Error as error:
        # DictReader counts a line only after it has read all of it.
        raise InputError(f"{path}:{reader.reader.line_num}: no valid CSV ({error})") from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: reading Parquet needs pyarrow (pip install 'simile-pairs[train]')") from error
    try:
        records = (fields for batch in parquet.ParquetFile(path).iter_batches() for fields in batch.to_pylist())
        for number, fields in enumerate(records, 1):
            yield Row(f"{path}: row {number}", fields)
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: no valid Parquet file ({error})") from error
