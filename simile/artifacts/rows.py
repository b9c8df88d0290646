"""Rows of tables, how a table is read, and the bytes and lines that it is read from."""

import codecs
import errno
import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import floor
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Self

from simile.errors import InputError

Format = Literal["jsonl", "json", "csv", "tsv", "parquet"]


class Row(NamedTuple):
    """One record of a file."""

    where: str
    """``file:line`` (or ``file: row n`` where the format has no lines)."""
    fields: dict[str, Any]
    """Values by column; None for an empty cell or a null."""
    unread: tuple[str, ...] = ()
    """Columns of the file that nobody needs."""

    @property
    def names(self) -> str:
        """The names of all columns, for a message."""
        return ", ".join(map(repr, (*self.fields, *self.unread))) or "none"


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How files are read, where their names and the usual conventions do not say it."""

    format: Format | None = None
    """Format of all files (default: by their suffixes)."""
    delimiter: str | None = None
    """Character between the columns of CSV and TSV (default: comma, tab)."""
    quote: str | None = None
    """Character around cells of CSV and TSV, empty where there is none (default: ``"`` in CSV, none in TSV)."""
    encoding: str | None = None
    """Encoding of text files (default: UTF-8)."""
    positive: frozenset[str] = frozenset()
    """Words that are read as label 1, in lower case."""
    negative: frozenset[str] = frozenset()
    """Words that are read as label 0; without any, all that are not positive are, if some are."""


DEFAULTS = ReadOptions()
READ_FAILURES = (OSError, EOFError, zlib.error)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Shard:
    """One of ``count`` parts of a table that follow each other and have about the same number of bytes."""

    number: int
    """From 1 to ``count``."""
    count: int


WHOLE = Shard(1, 1)


class Part(NamedTuple):
    """One file of a table, or a range of its rows."""

    name: str
    """Its name in messages."""
    path: Path
    format: Format
    opener: Callable[[], Any] | None = None
    """Opens the lines in place of the path's: an iterable and a context, such as a `LineRange`."""
    header: tuple[str, ...] = ()
    """Columns of CSV and TSV whose lines have no header, because they are a range behind it."""
    begin: Fraction = Fraction(0)
    end: Fraction = Fraction(1)
    """The range of rows, as fractions of the file."""

    @property
    def is_whole(self) -> bool:
        """Whether all rows of the file are read."""
        return self.begin == 0 and self.end == 1

    def range_of(self, num: int) -> range:
        """Return which of the file's ``num`` rows (or lines), numbered from 1, are in the range."""
        return range(floor(self.begin * num) + 1, floor(self.end * num) + 1)

    def opened(self) -> IO[bytes]:
        """Open the file, decompressed; reading it may fail with one of `READ_FAILURES`."""
        if self.opener:
            lines: IO[bytes] = self.opener()
            return lines
        is_packed = self.name.lower().endswith(".gz")
        return io.BufferedReader(gzip.open(self.path)) if is_packed else self.path.open("rb")

    @contextmanager
    def seekable(self) -> Iterator[Path | IO[bytes]]:
        """Give the file to a library that reads it in no order: its path, or a decompressed temporary copy."""
        if not self.name.lower().endswith(".gz"):
            yield self.path
            return
        with tempfile.TemporaryFile() as copy:
            try:
                with self.opened() as file:
                    shutil.copyfileobj(file, copy)
            except READ_FAILURES as error:
                if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                    raise
                raise InputError(f"{self.name}: {_told(error)}") from error
            copy.seek(0)
            yield copy


class LineRange:
    """The lines of a decompressed file from a position on; ``position`` is that behind the last line that was read.

    It ends with the first line that ends at ``stop`` or behind it.
    """

    def __init__(self, file: IO[bytes], start: int = 0, stop: int | None = None) -> None:
        self._file, self._stop, self.position = file, stop, start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self.position)
        while (self._stop is None or self.position < self._stop) and (line := self._file.readline()):
            self.position += len(line)
            yield line


def _told(error: Exception, after: str = "") -> str:
    """Return why reading failed."""
    if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
        return f"cannot be read{after} ({error.strerror or error})"
    return f"damaged gzip file{after} ({error})"


def has_byte_lines(encoding: str | None) -> bool:
    """Return whether the byte of a line break means one wherever it occurs, as in all encodings that extend ASCII."""
    return "\n".encode(encoding or "utf-8") == b"\n"


def num_lines(part: Part, encoding: str | None) -> int:
    """Return the number of lines of the whole file."""
    try:
        with part.opened() as file:
            lines = _raw_lines(file, encoding or "utf-8")
            return sum(1 for _ in lines)
    except UnicodeError:
        # Reading the lines names the one that is at fault.
        return sum(1 for _ in numbered_lines(part, encoding))
    except READ_FAILURES as error:
        raise InputError(f"{part.name}: {_told(error)}") from error


def _raw_lines(file: IO[bytes], encoding: str) -> Iterable[bytes | str]:
    """Return the lines as bytes or, in encodings such as UTF-16, where no byte is a line break, decoded."""
    return file if has_byte_lines(encoding) else io.TextIOWrapper(file, encoding, newline="\n")


def numbered_lines(part: Part, encoding: str | None, own: range | None = None) -> Iterator[tuple[int, str]]:
    """Yield numbered lines, all or those in the range, decoded one by one so that an error names its line.

    Raises:
        InputError: a line is not of this encoding (UTF-8 without one); the message says how to name another.
    """
    name = encoding or "utf-8"
    first, last = (1, None) if own is None else (own.start, own.stop - 1)
    number = first - 1
    try:
        with part.opened() as file:
            lines = _raw_lines(file, name)
            for number, raw in enumerate(islice(lines, first - 1, last), first):
                if number == 1 and isinstance(raw, bytes) and raw.startswith(_UTF16):
                    raise InputError(f"{part.name}: got UTF-16, need UTF-8 or --encoding utf-16")
                line = raw.decode(name) if isinstance(raw, bytes) else raw
                if number == 1 and "\0" in line and not part.header:
                    got = f"{part.name}:1: got NUL characters"
                    raise InputError(f"{got}, need text (UTF-16 needs --encoding utf-16-le)")
                yield number, line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeDecodeError as error:
        where = f"{part.name}:{number}: no valid {name.upper()} at byte {error.start} of the line"
        raise InputError(f"{where}, need --encoding if it is another (such as cp1252)") from error
    except READ_FAILURES as error:
        raise InputError(f"{part.name}: {_told(error, f' after line {number}')}") from error
    except UnicodeError as error:
        raise InputError(f"{part.name}: no valid {name.upper()} ({error}), need another --encoding") from error
