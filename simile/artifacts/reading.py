"""Rows of tables: files, folders of files, standard input; every `InputError` names file and line."""

import errno
import shutil
import stat
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

from simile.artifacts.delimited import delimited_rows
from simile.artifacts.json_rows import json_rows
from simile.artifacts.parquet_rows import parquet_rows
from simile.artifacts.rows import DEFAULTS, WHOLE, Format, Part, ReadOptions, Row, Shard
from simile.errors import InputError
from simile.files import sha256_bytes, sha256_file
from simile.progress import say
from simile.text_input import text_fault

FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
"""Format by suffix."""
STDIN = ("-", "/dev/stdin")


def bare_name(path: Path) -> str:
    """Return the file name without any known suffix: ``test-seen.jsonl.gz`` gives ``test-seen``."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return "stdin" if str(path) in STDIN else Path(name).stem if Path(name).suffix.lower() in FORMATS else name


@dataclass(frozen=True, slots=True)
class Source:
    """A table: one file, the files of a folder, or a copy of standard input; its rows can be read several times."""

    path: Path
    """The path that was given."""
    parts: tuple[Part, ...]
    options: ReadOptions

    def of_shard(self, shard: Shard) -> tuple[Part, ...]:
        """Return the part of the table that is this shard: files, of which the first and the last may be cut.

        The shards of a table hold each row once, and follow each other in its order.
        """
        if shard == WHOLE:
            return self.parts
        sizes = [max(1, part.path.stat().st_size) for part in self.parts]
        begin, end = (Fraction(sum(sizes) * i, shard.count) for i in (shard.number - 1, shard.number))
        parts, start = [], 0
        for part, size in zip(self.parts, sizes, strict=True):
            own = [min(max((edge - start) / size, Fraction(0)), Fraction(1)) for edge in (begin, end)]
            if own[0] < own[1]:
                parts.append(part._replace(begin=own[0], end=own[1]))
            start += size
        return tuple(parts)

    @property
    def sha256(self) -> str:
        """Hash of the file's bytes; of several files, that of the lines of their hashes."""
        hashes = [sha256_file(part.path) for part in self.parts]
        return sha256_bytes("".join(f"{one}\n" for one in hashes).encode()) if self.path.is_dir() else hashes[0]

    def rows(
        self,
        columns: Mapping[str, str] | None = None,
        *,
        wanted: Collection[str] | None = None,
        prefer_theirs: bool = False,
        skip_bad: bool = False,
        shard: Shard = WHOLE,
    ) -> Iterator[Row]:
        """Yield the rows in order, streaming all formats but an array in JSON.

        Args:
            columns: names of the file's columns by ours, where they differ, e.g. ``{"text": "body"}``.
            wanted: our names of the columns that are used (default: all); Parquet reads only these.
            prefer_theirs: whether a file without their column, but with ours, is read by ours.
            skip_bad: whether values of Parquet files that cannot be read are None instead of errors.
            shard: the part of the rows to yield, which may have none; the whole table has at least one.
        """
        columns, is_first = columns or {}, True
        read = None if wanted is None else {*wanted, *columns.values()}
        for part in self.of_shard(shard):
            for row in self._part_rows(part, read, skip_bad=skip_bad):
                if is_first and prefer_theirs:
                    columns = _existing(row, columns, self.path)
                yield _renamed(row, columns, is_first=is_first) if columns else row
                is_first = False
        if is_first and shard == WHOLE:
            what = "folder" if self.path.is_dir() else "file"
            raise InputError(f"{self.path}: the {what} is empty, need at least one record")

    def _part_rows(self, part: Part, wanted: Collection[str] | None, *, skip_bad: bool) -> Iterator[Row]:
        if part.format == "parquet":
            return parquet_rows(part, wanted, skip_bad=skip_bad)
        return (delimited_rows if part.format in ("csv", "tsv") else json_rows)(part, self.options)


@contextmanager
def open_source(path: Path, options: ReadOptions = DEFAULTS) -> Iterator[Source]:
    """Give the table at the path: a file, a folder of files of one format, or ``-`` for standard input.

    Standard input, or a pipe, has JSON lines unless the options say otherwise. It is copied to a temporary file.

    Raises:
        InputError: there is no such file, its format is unknown, or the folder holds something else.
    """
    try:
        mode = 0 if str(path) in STDIN else path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if stat.S_ISREG(mode):
        yield Source(path, (Part(str(path), path, _format_of(path, options)),), options)
    elif stat.S_ISDIR(mode):
        yield Source(path, _parts(path, options), options)
    elif mode == 0 or stat.S_ISFIFO(mode):
        name = "stdin" if mode == 0 else str(path)
        with tempfile.NamedTemporaryFile() as copy:
            try:
                _copy_stream(None if mode == 0 else path, copy)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise
                raise InputError(f"{name}: cannot be read ({error.strerror or error})") from error
            yield Source(path, (Part(name, Path(copy.name), _format_of(path, options, default="jsonl")),), options)
    else:
        raise InputError(f"{path}: is a device or a socket, need a file, a folder or -")


def source_sha256(path: Path) -> str:
    """Return the hash of the file, or of the folder's files, as `Source.sha256` defines it."""
    with open_source(path, ReadOptions(format="jsonl")) as source:
        return source.sha256


def read_rows(
    path: Path,
    columns: Mapping[str, str] | None = None,
    options: ReadOptions = DEFAULTS,
    *,
    wanted: Collection[str] | None = None,
    shard: Shard = WHOLE,
) -> Iterator[Row]:
    """Yield the rows of a table in order; see `open_source` and `Source.rows`.

    Raises:
        InputError: the file is missing, empty, of unknown format or encoding, or a line is not a record.
    """
    with open_source(path, options) as source:
        yield from source.rows(columns, wanted=wanted, shard=shard)


def require_text(row: Row, field: str) -> str:
    """Return the field's value if it is a non-blank text that UTF-8 can encode, and raise an `InputError` otherwise."""
    value = row.fields[field]
    if fault := text_fault(value, field):
        raise InputError(f"{row.where}: {fault}")
    return str(value)


def _existing(row: Row, columns: Mapping[str, str], path: Path) -> dict[str, str]:
    """Return the columns without those of which the row has ours and not theirs, and name these."""
    names = {*row.fields, *row.unread}
    for ours, theirs in columns.items():
        if ours in names and theirs not in names:
            say(f"{path}: no column {theirs!r}, its column {ours!r} is read")
    return {ours: theirs for ours, theirs in columns.items() if theirs in names or ours not in names}


def _renamed(row: Row, columns: Mapping[str, str], *, is_first: bool) -> Row:
    """Return the row under our names, which replace columns of the file that already have such a name."""
    if is_first and (missing := next((theirs for theirs in columns.values() if theirs not in row.fields), None)):
        raise InputError(f"{row.where}: no column {missing!r}, got {row.names}")
    others = {name: value for name, value in row.fields.items() if name not in {*columns, *columns.values()}}
    return row._replace(fields=others | {ours: row.fields.get(theirs) for ours, theirs in columns.items()})


def _copy_stream(path: Path | None, copy: IO[bytes]) -> None:
    """Copy the pipe, or standard input, which stays open."""
    if path is None and sys.stdin is None:
        raise InputError("stdin: is closed, need the rows on it")
    if path is None:
        shutil.copyfileobj(sys.stdin.buffer, copy)
    else:
        with path.open("rb") as stream:
            shutil.copyfileobj(stream, copy)
    copy.flush()


def _format_of(path: Path, options: ReadOptions, default: Format | None = None) -> Format:
    name = path.name.lower().removesuffix(".gz")
    if known := options.format or FORMATS.get(Path(name).suffix) or default:
        return known
    need = f"need one of {', '.join(FORMATS)} (or .gz of it), or --format"
    raise InputError(f"{path}: got a file of type {Path(name).suffix or 'none'!r}, {need}")


def _parts(folder: Path, options: ReadOptions) -> tuple[Part, ...]:
    """Return the folder's files in the order of their names, without those that begin with a dot or an underscore."""
    paths = sorted(path for path in folder.iterdir() if path.name[0] not in "._")
    if other := next((path for path in paths if not path.is_file()), None):
        raise InputError(f"{other}: is no file, need a folder of files only")
    parts = tuple(Part(str(path), path, _format_of(path, options)) for path in paths)
    if len(formats := sorted({part.format for part in parts})) > 1:
        raise InputError(f"{folder}: got files of the formats {', '.join(formats)}, need one format")
    return parts
