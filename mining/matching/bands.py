"""Recipes that need no matching: candidates -> pairs.

Shape suffix: C = candidates.
"""

import numpy as np

from mining.matching.picker import Picker
from mining.sampling.candidates import is_in_band
from mining.sampling.features import Candidates

Band = tuple[float, float]


def take_from_bands(
    candidates: Candidates,
    num_each: int,
    same_category: float,
    positive_band: Band,
    negative_band: Band,
    picker: Picker,
) -> None:
    """Take pairs as the usual recipe does: each class from a TF-IDF band of its own, a share of one category."""
    tfidf_C, is_positive_C, is_same_C = candidates.tfidf_C, candidates.is_positive_C, candidates.is_same_category_C
    positives = np.flatnonzero(is_positive_C & is_in_band(tfidf_C, positive_band))
    is_negative_C = ~is_positive_C & is_in_band(tfidf_C, negative_band)
    taken = picker.take_some(positives, num_each)
    got = picker.take_some(np.flatnonzero(is_negative_C & is_same_C), round(same_category * len(taken)))
    got += picker.take_some(np.flatnonzero(is_negative_C & ~is_same_C), len(taken) - len(got))
    # Where one kind runs out (a corpus of one category has no other), the other kind stands in.
    got += picker.take_some(np.flatnonzero(is_negative_C & is_same_C), len(taken) - len(got))
    for index in taken[len(got) :]:
        picker.release(index)


def phase_bands(candidates: Candidates) -> tuple[tuple[Band, Band], tuple[Band, Band]]:
    """Return the TF-IDF bands (of positives, of negatives) of a curriculum's first and second phase.

    Easy: the third of the positives with the most words in common, negatives with fewer than any third. Medium: the
    middle third, negatives of about half as many.
    """
    low, high = np.quantile(candidates.tfidf_C[candidates.is_positive_C], [1 / 3, 2 / 3]).tolist()
    return ((high, 1.0), (0.0, low / 2)), ((low, high), (low / 2, low))
