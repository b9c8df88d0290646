"""Labelled pairs of a sample, with their strata.

Shape suffix: P = pairs.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelling.estimation import Sample
from labelling.report import sampled
from simile.artifacts import SampledPair, open_source, read_labelled_pairs, read_sampled_pairs
from simile.errors import InputError


@dataclass(frozen=True, slots=True)
class LabelledSample:
    """The pairs of the random part."""

    pairs: tuple[SampledPair, ...]
    label_P: NDArray[np.float64]
    sample: Sample
    num_left_out: int
    """Number of pairs that were chosen by their scores."""


def read_labelled_sample(path: Path) -> LabelledSample:
    """Return the labelled pairs of a table; without the column ``part``, all are of the random part.

    Raises:
        InputError: the file cannot be read, has graded scores or pairs without a label, or no pair of the random part.
    """
    labelled = read_labelled_pairs(path)
    if labelled.is_graded:
        raise InputError(f"{path}: got graded scores, need labels 0 and 1")
    pairs = read_sampled_pairs(path)
    with open_source(path) as source:
        parts = [row.fields.get("part") or "random" for row in source.rows()]
    is_random_P = np.array([part == "random" for part in parts])
    if not is_random_P.any():
        raise InputError(f"{path}: got no pair of the part 'random', need some: only they represent the traffic")
    chosen = tuple(pair for pair, is_random in zip(pairs, is_random_P, strict=True) if is_random)
    return LabelledSample(chosen, labelled.target_P[is_random_P], sampled(chosen), int((~is_random_P).sum()))
