"""Part files: one Parquet file per shard, whole or absent, which says in its metadata what it was made from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from simile.artifacts.bulk_manifest import BulkInput, BulkManifest, BulkPart, BulkPartCounts, BulkWork
from simile.bulk.storage import Stored, storage_of
from simile.bulk.tables import Shard
from simile.errors import InputError

SUCCESS = "_SUCCESS"
_KEY, _TEXTS = b"simile", b"simile.texts"
_THREADS = 16
"""Metadata that is read at once: in a bucket, each takes a few requests of tens of milliseconds."""


class Whole(NamedTuple):
    """A part that is whole."""

    counts: BulkPartCounts
    precision: str


def stated(file: Stored) -> BulkInput:
    """Return how metadata name a file of the input."""
    return BulkInput(path=file.address, size_bytes=file.size_bytes, version=file.version)


def address_in(folder: str, name: str) -> str:
    """Return the address of a file in the output folder."""
    return f"{folder.rstrip('/')}/{name}"


def described(shard: Shard, work: BulkWork, precision: str) -> BulkPart:
    """Return what the shard's part says about itself."""
    return BulkPart(
        work=work,
        precision=precision,
        input=stated(shard.table.file),
        first_row=shard.first_row,
        num_rows=shard.num_rows,
    )


def added_names(names: Sequence[str], added: Sequence[str]) -> dict[str, str]:
    """Return the new names of the columns that have the name of one that is added: ``input_score`` for ``score``."""
    renamed: dict[str, str] = {}
    for name in sorted(set(added).intersection(names)):
        renamed[name] = f"input_{name}"
        while renamed[name] in names:
            renamed[name] = f"input_{renamed[name]}"
    return renamed


@contextmanager
def written_part(folder: str, shard: Shard, part: BulkPart, added: pa.Schema) -> Iterator["PartWriter"]:
    """Yield the writer of a part, which appears when the block ends, unless its input has changed meanwhile."""
    file = shard.table.file
    with storage_of(folder).whole(address_in(folder, shard.part)) as path:
        renamed = added_names(shard.table.schema.names, added.names)
        fields = [field.with_name(renamed.get(field.name, field.name)) for field in shard.table.schema]
        schema = pa.schema([*fields, *added], metadata={_KEY: part.model_dump_json().encode()})
        with pq.ParquetWriter(path, schema, compression="zstd") as parquet:
            writer = PartWriter(parquet, schema)
            yield writer
            if writer.num_rows != part.num_rows or storage_of(file.address).stat(file.address) != file:
                raise InputError(f"{file.address}: was changed while it was read, need a file that stays")
            parquet.add_key_value_metadata({_TEXTS: str(writer.num_texts).encode()})


class PartWriter:
    """Writes blocks of rows, each as a row group, and holds the counts."""

    def __init__(self, parquet: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._parquet, self._schema = parquet, schema
        self.num_rows = 0
        self.num_texts = 0
        """Texts that were computed, which the worker sets."""

    def write(self, block: pa.Table, added: Sequence[pa.Array]) -> None:
        """Write the rows with the columns that are added."""
        columns = [*block.columns, *added]
        self._parquet.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self.num_rows += len(block)


def whole_parts(folder: str, shards: Iterable[Shard], work: BulkWork) -> dict[str, Whole]:
    """Return the parts that are whole, by name.

    Raises:
        InputError: the folder holds a part of another bundle or input, or a Parquet file that is no part of this input.
    """
    by_name = {shard.part: shard for shard in shards}
    there = [name for name in storage_of(folder).listing(folder) if name.endswith(".parquet") and name[0] not in "._"]
    if other := next((name for name in sorted(there) if name not in by_name), None):
        got = f"{address_in(folder, other)}: is no part of this input (with --shard-rows {work.rows_per_shard})"
        raise InputError(f"{got}, need an empty folder or one of the same command")
    with ThreadPoolExecutor(_THREADS) as pool:
        read_parts = pool.map(lambda name: (name, _read(address_in(folder, name))), there)
        return {name: _checked(by_name[name], *read, folder, work) for name, read in read_parts if read is not None}


def write_success(folder: str, shards: Sequence[Shard], work: BulkWork, whole: Mapping[str, Whole]) -> BulkManifest:
    """Write and return the manifest of a folder whose parts are all whole.

    Raises:
        InputError: the parts were computed in different precisions.
    """
    precisions = sorted({part.precision for part in whole.values()})
    if len(precisions) > 1:
        got = f"{folder}: got parts in {' and '.join(precisions)}, as workers differ"
        raise InputError(f"{got}; remove those in one of them, and repeat the command with --precision")
    parts = tuple(whole[shard.part].counts for shard in shards)
    manifest = BulkManifest(
        work=work,
        precision=precisions[0],
        inputs=tuple(stated(file) for file in dict.fromkeys(shard.table.file for shard in shards)),
        parts=parts,
        rows=sum(part.rows for part in parts),
        texts=sum(part.texts for part in parts),
    )
    with storage_of(folder).whole(address_in(folder, SUCCESS)) as path:
        path.write_text(manifest.model_dump_json(indent=2) + "\n")
    return manifest


def _read(address: str) -> tuple[BulkPart | None, int] | None:
    """Return what the file says about itself, and its number of texts; None if it is not whole."""
    try:
        with storage_of(address).opened(address) as file:
            metadata = pq.read_metadata(file).metadata or {}
    except (pa.ArrowException, OSError, ValueError):
        return None
    try:
        return BulkPart.model_validate_json(metadata.get(_KEY, b"")), int(metadata[_TEXTS])
    except (ValidationError, KeyError, ValueError):
        return None, 0


def _checked(shard: Shard, part: BulkPart | None, num_texts: int, folder: str, work: BulkWork) -> Whole:
    """Return the part, or refuse one that was made by other work or from another input."""
    where, need = address_in(folder, shard.part), "need an empty folder, or --out another one"
    if part is None:
        raise InputError(f"{where}: is no part that Simile has written, {need}")
    if part.work.digest != work.digest:
        raise InputError(
            f"{where}: got a part by the bundle {part.work.bundle}@{part.work.digest[:12]}, "
            f"not {work.bundle}@{work.digest[:12]}; {need}"
        )
    if part.work != work:
        ours, theirs = work.model_dump(), part.work.model_dump()
        name = next(name for name in ours if ours[name] != theirs[name])
        raise InputError(f"{where}: got a part with {name} {theirs[name]}, not {ours[name]}; {need}")
    if part != described(shard, work, part.precision):
        raise InputError(f"{where}: got a part of {part.input.path} before it was changed; {need}")
    return Whole(BulkPartCounts(name=shard.part, rows=part.num_rows, texts=num_texts), part.precision)
