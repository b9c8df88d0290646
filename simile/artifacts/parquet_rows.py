"""Rows of Parquet files: only the columns that are used are read, a few thousand rows at a time."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from itertools import accumulate
from typing import Any

from simile.artifacts.delimited import require_unique
from simile.artifacts.rows import Part, Row
from simile.errors import InputError
from simile.progress import say

_BATCH_ROWS, _BUFFER_BYTES = 4096, 1 << 20
_Failures = tuple[type[Exception], ...]


def parquet_rows(part: Part, wanted: Collection[str] | None, *, skip_bad: bool) -> Iterator[Row]:
    """Yield the rows with the columns that are ``wanted``, or with all.

    A value that cannot be read is refused with its column; with ``skip_bad`` it becomes None, and a note counts them.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise InputError(f"{part.name}: reading Parquet needs pyarrow (pip install 'simile-pairs[bulk]')") from error
    # Corrupt pages, dates beyond Python's and unknown time zones raise one or another of these.
    failures: _Failures = (pyarrow.ArrowException, OSError, ValueError, LookupError, ArithmeticError, TypeError)
    number, bad = 0, Counter[str]()

    def refuse(index: int, name: str, error: Exception) -> None:
        if not skip_bad:
            where = f"{part.name}: row {number + index}: column {name!r}"
            raise InputError(f"{where} cannot be read ({_told(error)})") from error
        bad[name] += 1

    try:
        # Without a buffer of this size, all pages of a row group would be in memory at once.
        with part.seekable() as file, parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES) as table:
            names = table.schema_arrow.names
            require_unique(names, part.name)
            used = [name for name in names if wanted is None or name in wanted] or names[:1]
            unread = tuple(name for name in names if name not in used)
            own = part.range_of(table.metadata.num_rows)
            groups, number = _row_groups(table.metadata, own)
            for batch in table.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups, columns=used):
                skipped = min(max(0, own.start - 1 - number), batch.num_rows)
                batch = batch.slice(skipped, max(0, own.stop - 1 - number - skipped))
                number += skipped
                columns = [_values(name, batch.column(name), failures, refuse) for name in used]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield Row(f"{part.name}: row {number}", dict(zip(used, values, strict=True)), unread)
    except failures as error:
        raise InputError(f"{part.name}: no valid Parquet file ({_told(error)})") from error
    for name, num in bad.items():
        say(f"{part.name}: column {name!r}: {num:,} values cannot be read, null stands for them")


def _row_groups(metadata: Any, own: range) -> tuple[list[int], int]:
    """Return the row groups that hold rows of the range, and the number of rows before the first of these."""
    ends = list(accumulate(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)))
    starts = [0, *ends[:-1]]
    groups = [i for i in range(len(ends)) if starts[i] < own.stop - 1 and ends[i] >= own.start]
    return groups, starts[groups[0]] if groups else 0


def _values(name: str, column: Any, failures: _Failures, refuse: Callable[[int, str, Exception], None]) -> list[Any]:
    """Return the column's values; for each that cannot be read, call ``refuse`` with its position from 1."""
    import pyarrow

    is_binary = pyarrow.types.is_binary(column.type) or pyarrow.types.is_large_binary(column.type)
    try:
        if not is_binary:
            return list(column.to_pylist())
    except failures:
        pass
    values = []
    for index, scalar in enumerate(column, 1):
        value = None
        try:
            read = scalar.as_py()
            # Some writers do not mark strings as text.
            value = read.decode() if isinstance(read, bytes) else read
        except failures as error:
            refuse(index, name, error)
        values.append(value)
    return values


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__
