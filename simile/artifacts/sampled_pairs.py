"""Pairs that were sampled for labelling: from a service's traffic, from a file, or proposed from documents."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simile.artifacts.pairs import NEED_TEXTS, TEXT_COLUMNS, inclusion_probability, optional_number, text_names
from simile.artifacts.reading import Source, open_source, require_text
from simile.artifacts.rows import DEFAULTS, ReadOptions, Row
from simile.errors import InputError
from simile.files import sha256_bytes, write_whole

if TYPE_CHECKING:
    import pyarrow as pa

HASHED = ("text_a_sha256", "text_b_sha256")
"""Columns that hold the texts' hashes (`simile.artifacts.texts.text_hash`) where the texts themselves are left out."""
_NUMBERS = ("bundle_score", "baseline_score", "inclusion_probability")
_WANTED = TEXT_COLUMNS.union(HASHED, _NUMBERS, ("stratum",))


@dataclass(frozen=True, slots=True)
class SampledPair:
    """Two texts, and how they came into the sample."""

    text_a: str
    text_b: str
    bundle_score: float | None = None
    """Score of the bundle that served or sampled the pair. It is not named ``score``, which is a graded label."""
    baseline_score: float | None = None
    """Score of the untouched encoder, where the sampling computed it."""
    stratum: str | None = None
    """Name of the part of the population that the pair was drawn from; None where the sample has no strata."""
    inclusion_probability: float = 1.0
    """Probability with which this pair came into the sample, in (0, 1]; its inverse is the pair's weight."""

    @property
    def key(self) -> str:
        """What identifies the pair: the hash of its two texts, 16 hexadecimal digits."""
        return sha256_bytes(f"{len(self.text_a)}:{self.text_a}{self.text_b}".encode())[:16]


def read_sampled_pairs(path: Path, options: ReadOptions = DEFAULTS) -> tuple[SampledPair, ...]:
    """Return the pairs of a table, such as a folder of sampled traffic; it needs only two texts per row.

    Raises:
        InputError: the file cannot be read, a pair lacks a text or has only its hash, or a number is none.
    """
    with open_source(path, options) as source:
        return sampled_pairs_of(source)


def sampled_pairs_of(source: Source, columns: Mapping[str, str] | None = None) -> tuple[SampledPair, ...]:
    """Return the pairs of an open table as `read_sampled_pairs` does, each pair once.

    Every row stands for ``1 / inclusion_probability`` pairs of the population. A pair in several rows stands for their
    sum: its probability is the inverse of that. Its scores and its stratum are those of the last row.
    """
    pairs: dict[str, SampledPair] = {}
    for row in source.rows(columns, wanted=_WANTED, prefer_theirs=True):
        pair = _pair(row)
        if earlier := pairs.get(pair.key):
            weight = 1 / earlier.inclusion_probability + 1 / pair.inclusion_probability
            pair = replace(pair, inclusion_probability=1 / weight)
        pairs[pair.key] = pair
    return tuple(pairs.values())


def write_sampled_pairs(path: Path, pairs: Iterable[SampledPair]) -> None:
    """Write the pairs, whole or not at all, as Parquet or as JSON lines by the suffix; see `require_sample_path`."""
    rows = [asdict(pair) for pair in pairs]
    if path.suffix != ".parquet":
        lines = ({name: value for name, value in row.items() if value is not None} for row in rows)
        write_whole(path, "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))
        return
    import pyarrow as pa

    texts = dict.fromkeys(("text_a", "text_b", "stratum"), pa.string())
    schema = pa.schema([(field.name, texts.get(field.name, pa.float64())) for field in fields(SampledPair)])
    write_whole(path, parquet_bytes(rows, schema))


def require_sample_path(path: Path) -> None:
    """Refuse, by an `InputError`, a path that does not say in which format a sample is written."""
    if path.suffix not in (".jsonl", ".parquet"):
        raise InputError(f"{path}: got a file of type {path.suffix or 'none'!r}, need .jsonl or .parquet")


def parquet_bytes(rows: Sequence[Mapping[str, Any]], schema: "pa.Schema") -> bytes:
    """Return the rows as the bytes of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(rows, schema), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _pair(row: Row) -> SampledPair:
    names = text_names(row.fields)
    if names is None and set(HASHED) <= row.fields.keys():
        raise InputError(
            f"{row.where}: got hashes of texts (--sample-hashed), need the texts: hashes cannot be labelled"
        )
    if names is None:
        raise InputError(f"{row.where}: got fields {row.names}, {NEED_TEXTS}")
    stratum = row.fields.get("stratum")
    inclusion = inclusion_probability(row)
    return SampledPair(
        text_a=require_text(row, names[0]),
        text_b=require_text(row, names[1]),
        bundle_score=optional_number(row, "bundle_score"),
        baseline_score=optional_number(row, "baseline_score"),
        stratum=None if stratum is None else str(stratum),
        inclusion_probability=1.0 if inclusion is None else inclusion,
    )
