"""Pairs that are too many for memory: a sequence that reads them from a temporary file when they are asked for."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, overload

from simile.artifacts.pair import Pair

if TYPE_CHECKING:
    import pyarrow as pa

MAX_IN_MEMORY = 100_000
"""Most pairs of a file that are held as objects, of 600 bytes each."""
_ROWS_PER_BATCH = 1000
_FIELDS = tuple(field.name for field in fields(Pair))


def in_memory_or_stored(pairs: Iterable[Pair]) -> Sequence[Pair]:
    """Return the pairs, which are read once, as a tuple or, where they are many, as `StoredPairs`."""
    pairs = iter(pairs)
    first = tuple(islice(pairs, MAX_IN_MEMORY))
    after = next(pairs, None)
    return first if after is None else StoredPairs(chain(first, (after,), pairs))


def write_rows(writer: "pa.RecordBatchWriter", rows: Iterator[Mapping[str, Any]], schema: "pa.Schema") -> int:
    """Write the rows to an Arrow file or stream, some at a time, and return their number."""
    import pyarrow as pa

    num = 0
    while batch := list(islice(rows, _ROWS_PER_BATCH)):
        writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))
        num += len(batch)
    return num


class StoredPairs(Sequence[Pair]):
    """Pairs in an Arrow file that is mapped into memory, of which the system keeps as much as there is room for.

    The file lies in the folder for temporary files (``TMPDIR``) without a name, so that it ends with the process.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        import pyarrow as pa

        texts = dict.fromkeys(("text_a", "text_b", "group_a", "group_b", "tier"), pa.string())
        numbers = dict.fromkeys(("score", "tfidf", "inclusion_probability"), pa.float64())
        types = texts | numbers | {"label": pa.int8(), "same_category": pa.bool_()}
        schema = pa.schema([(name, types[name]) for name in _FIELDS])
        rows = ({name: getattr(pair, name) for name in _FIELDS} for pair in pairs)
        with tempfile.NamedTemporaryFile(prefix="simile-", suffix=".arrow") as file:
            with pa.OSFile(file.name, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                self._len = write_rows(writer, rows, schema)
            self._file = pa.ipc.open_file(pa.memory_map(file.name))

    def __len__(self) -> int:
        return self._len

    def __iter__(self) -> Iterator[Pair]:
        for number in range(self._file.num_record_batches):
            columns = [column.to_pylist() for column in self._file.get_batch(number).columns]
            yield from map(Pair, *columns)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Pair, ...]: ...
    def __getitem__(self, index: int | slice) -> Pair | tuple[Pair, ...]:
        places = range(self._len)[index]
        if isinstance(places, range):
            return tuple(self[place] for place in places)
        number, row = divmod(places, _ROWS_PER_BATCH)
        return Pair(*(column[row].as_py() for column in self._file.get_batch(number).columns))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return StoredPairs, (tuple(self),)
