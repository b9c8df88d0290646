"""Selection without matching: each class from a TF-IDF band of its own.

Shape suffix: C = candidates.
"""

from dataclasses import dataclass

import numpy as np

from mining.matching.picker import Picker
from mining.sampling.candidates import Band, is_in_band
from mining.sampling.features import Candidates


@dataclass(frozen=True, slots=True)
class ClassBands:
    """The TF-IDF band of each class."""

    positive: Band
    negative: Band


def take_from_bands(picker: Picker, bands: ClassBands, num_each: int, same_category: float) -> None:
    """Take up to ``num_each`` pairs of each class from its band, a share of the negatives from one category."""
    candidates = picker.candidates
    tfidf_C, is_positive_C, is_same_C = candidates.tfidf_C, candidates.is_positive_C, candidates.is_same_category_C
    positives = np.flatnonzero(is_positive_C & is_in_band(tfidf_C, bands.positive))
    is_negative_C = ~is_positive_C & is_in_band(tfidf_C, bands.negative)
    same, different = (np.flatnonzero(is_negative_C & is_wanted_C) for is_wanted_C in (is_same_C, ~is_same_C))
    taken = picker.take_some(positives, num_each)
    num_negatives = len(picker.take_some(same, round(same_category * len(taken))))
    # Each part of the negatives makes up for the other where that runs out, as in a corpus of one category.
    for negatives in (different, same):
        num_negatives += len(picker.take_some(negatives, len(taken) - num_negatives))
    for index in taken[num_negatives:]:
        picker.release(index)


def phase_bands(candidates: Candidates) -> tuple[ClassBands, ClassBands]:
    """Return the TF-IDF bands of a curriculum's easy and medium phase.

    With ``low`` and ``high`` the terciles of the positives' TF-IDF cosines. Easy: positives above ``high``, negatives
    below ``low / 2``. Medium: positives from ``low`` to ``high``, negatives from ``low / 2`` to ``low``.
    """
    low, high = np.quantile(candidates.tfidf_C[candidates.is_positive_C], [1 / 3, 2 / 3]).tolist()
    return ClassBands((high, 1.0), (0.0, low / 2)), ClassBands((low, high), (low / 2, low))
