"""Pairs that were sampled for labelling: from a service's traffic, from a file, or proposed from documents."""

from dataclasses import dataclass
from pathlib import Path

from simile.artifacts.pairs import NEED_TEXTS, inclusion_probability, optional_number, text_names
from simile.artifacts.reading import open_source, require_text
from simile.artifacts.rows import DEFAULTS, ReadOptions, Row
from simile.errors import InputError
from simile.files import sha256_bytes


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
    """Return the pairs of a table, which needs only two texts each; every row must be an own pair.

    Raises:
        InputError: the file cannot be read, a pair lacks a text or occurs twice, or a number is none.
    """
    with open_source(path, options) as source:
        pairs: dict[str, SampledPair] = {}
        for pair, row in ((_pair(row), row) for row in source.rows()):
            if pair.key in pairs:
                raise InputError(f"{row.where}: got a pair that occurs before, need each pair once")
            pairs[pair.key] = pair
    return tuple(pairs.values())


def _pair(row: Row) -> SampledPair:
    names = text_names(row.fields)
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
