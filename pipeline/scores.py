"""Scores of pairs by a bundle, with a progress bar."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simile.artifacts import SampledPair
from simile.progress import Progress
from simile.scoring import Scorer, require_finite


def scores_of(scorer: Scorer, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
    """Return the score of each pair, all of them finite, and show progress where there are several pairs."""
    num_texts = len({text for pair in pairs for text in pair}) * len(scorer.members)
    with Progress("scoring", num_texts, "texts") if len(pairs) > 1 else nullcontext() as progress:
        score_P = scorer.score_members(pairs, progress.advance if progress else None).score_P
    require_finite(score_P, scorer.runtime)
    return score_P


def with_scores(
    pairs: Sequence[SampledPair], scorer: Scorer, column: Literal["bundle_score", "baseline_score"]
) -> list[SampledPair]:
    """Return the pairs with their scores in the column."""
    score_P = scores_of(scorer, [(pair.text_a, pair.text_b) for pair in pairs])
    return [replace(pair, **{column: score}) for pair, score in zip(pairs, score_P.tolist(), strict=True)]
