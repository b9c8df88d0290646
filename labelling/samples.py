"""Labelled pairs of a sample, with their strata.

Shape suffix: P = pairs.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelling.estimation import Sample, sample_of
from simile.artifacts import open_source, read_labelled_pairs
from simile.errors import InputError


@dataclass(frozen=True, slots=True)
class LabelledSample:
    """The pairs of the random part."""

    texts: tuple[tuple[str, str], ...]
    label_P: NDArray[np.float64]
    sample: Sample
    num_left_out: int
    """Number of pairs that were chosen by their scores."""


def read_labelled_sample(path: Path) -> LabelledSample:
    """Return the labelled pairs of a table; without the column ``part``, all are of the random part.

    A pair in several rows counts with the weight of each.

    Raises:
        InputError: the file cannot be read, has graded scores or pairs without a label, or no pair of the random part.
    """
    labelled = read_labelled_pairs(path)
    if labelled.is_graded:
        raise InputError(f"{path}: got graded scores, need labels 0 and 1")
    with open_source(path) as source:
        columns = [(row.fields.get("part") or "random", row.fields.get("stratum")) for row in source.rows()]
    chosen = [i for i, (part, _) in enumerate(columns) if part == "random"]
    if not chosen:
        raise InputError(f"{path}: got no pair of the part 'random', need some: only they represent the traffic")
    inclusion_P = np.array([labelled.rows[i].inclusion_probability or 1.0 for i in chosen])
    return LabelledSample(
        texts=tuple(labelled.texts[i] for i in chosen),
        label_P=labelled.target_P[chosen],
        sample=sample_of(inclusion_P, [None if columns[i][1] is None else str(columns[i][1]) for i in chosen]),
        num_left_out=len(columns) - len(chosen),
    )
