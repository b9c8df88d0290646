"""Each positive pair with a hard negative: what ranking losses train on."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mining.sampling.features import Candidates
from simile.artifacts import Document
from simile.files import write_whole


@dataclass(frozen=True, slots=True)
class Triplet:
    """Three texts, under the names that sentence-transformers' losses take."""

    anchor: str
    positive: str
    negative: str


def triplets(rows: Sequence[Document], chosen: Candidates, pool: Candidates) -> list[Triplet]:
    """Return each chosen positive pair with the negative of one of its texts that is most like it in words.

    A negative is taken once for each anchor; a pair whose texts are in no free negative is left out.
    """
    negatives: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for index in np.flatnonzero(~pool.is_positive_C).tolist():
        a, b = int(pool.a_C[index]), int(pool.b_C[index])
        negatives[a].append((index, b))
        negatives[b].append((index, a))
    used: set[tuple[int, int]] = set()
    found = []
    for pair in np.flatnonzero(chosen.is_positive_C).tolist():
        ends = int(chosen.a_C[pair]), int(chosen.b_C[pair])
        free = [
            (abs(float(pool.tfidf_C[index] - chosen.tfidf_C[pair])), anchor, negative)
            for anchor in ends
            for index, negative in negatives[anchor]
            if (anchor, negative) not in used
        ]
        if not free:
            continue
        _, anchor, negative = min(free)
        used.add((anchor, negative))
        positive = ends[0] if anchor == ends[1] else ends[1]
        found.append(Triplet(rows[anchor].text, rows[positive].text, rows[negative].text))
    return found


def write_triplets(path: Path, rows: Iterable[Triplet]) -> None:
    """Write the triplets as JSONL, whole or not at all."""
    write_whole(path, "".join(f"{json.dumps(asdict(row))}\n" for row in rows))
