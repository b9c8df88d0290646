"""One pair of texts."""

from dataclasses import dataclass
from typing import Literal

Tier = Literal["target", "matched", "group"]
"""What a mined pair was chosen by: the target, a pair of the other class alike in words and length, or its groups."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts and what is known about them."""

    text_a: str
    text_b: str
    label: int | None = None
    """1 where the texts mean the same (a positive pair), 0 where they do not."""
    score: float | None = None
    """Graded similarity on any finite scale, instead of a label."""
    group_a: str | None = None
    group_b: str | None = None
    tfidf: float | None = None
    """TF-IDF cosine of the two texts, in [0, 1]."""
    same_category: bool | None = None
    tier: Tier | None = None
    """What `simile mine` chose the pair by; None for pairs that were not mined by tiers."""

    inclusion_probability: float | None = None
    """Probability with which the pair came into a sample, in (0, 1]: figures weight the pair by its inverse."""

    @property
    def target(self) -> float | None:
        """The label, or else the graded score."""
        return self.label if self.label is not None else self.score
