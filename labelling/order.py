"""The order in which pairs are shown: first what a verdict needs, then what training learns most from.

Shape suffix: P = pairs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelling.answers import Answer, Part
from labelling.present import PresentLabel
from simile.artifacts.sampled_pairs import SampledPair
from simile.errors import InputError
from simile.files import sha256_bytes


@dataclass(frozen=True, slots=True)
class Task:
    """A pair to be labelled, and why it stands where it does."""

    pair: SampledPair
    part: Part
    present: PresentLabel | None = None
    """The label that the pair has already."""


def audit_order(pairs: Iterable[SampledPair], labels: Mapping[str, PresentLabel]) -> tuple[Task, ...]:
    """Return the pairs with their labels in their own order, which is that of suspicion."""
    return tuple(Task(pair, "audit", labels.get(pair.key)) for pair in pairs)


def labelling_order(
    pairs: Iterable[SampledPair], *, num_random: int | None = None, threshold: float | None = None
) -> tuple[Task, ...]:
    """Return the pairs in the order of what their labels are worth.

    1. ``random``: the first ``num_random`` pairs of a random order (default: half of them; all without scores). It is
       the same order for everybody, so that several people label the same pairs first.
    2. ``disagreement``: of the rest, the half on which bundle and baseline disagree most, by the difference of the
       pair's ranks among all pairs. Without a threshold it is all the rest; without baseline scores there is none.
    3. ``threshold``: what is left, from the score that is nearest to the threshold on.

    Raises:
        InputError: ``num_random`` is given, and nothing orders the other pairs.
    """
    shuffled = sorted(pairs, key=lambda pair: sha256_bytes(f"order {pair.key}".encode()))
    bundle_P, baseline_P = (_scores(shuffled, name) for name in ("bundle_score", "baseline_score"))
    if bundle_P is None or (baseline_P is None and threshold is None):
        if num_random is not None:
            raise InputError(
                "got --random, and nothing that orders the other pairs: need --bundle, --baseline, or both"
            )
        return tuple(Task(pair, "random") for pair in shuffled)
    num = (len(shuffled) + 1) // 2 if num_random is None else min(num_random, len(shuffled))
    rest = list(range(num, len(shuffled)))
    disputed = [] if baseline_P is None else _disputed(rest, _ranks(bundle_P) - _ranks(baseline_P), threshold)
    distance_P = np.abs(bundle_P - (threshold or 0.0))
    nearest = sorted(set(rest).difference(disputed), key=lambda i: (distance_P[i], i))
    parts: dict[Part, Iterable[int]] = {"random": range(num), "disagreement": disputed, "threshold": nearest}
    return tuple(Task(shuffled[i], part) for part, indices in parts.items() for i in indices)


def require_same_random_part(tasks: Iterable[Task], answers: Iterable[Answer]) -> None:
    """Refuse, by an `InputError`, a random part with pairs that were chosen by score when they were answered.

    As members of another part, they would be missing in the random one, which would then represent nothing.
    """
    random_keys = {task.pair.key for task in tasks if task.part == "random"}
    if num := sum(answer.pair in random_keys and answer.part != "random" for answer in answers):
        got = f"got {num} answers to pairs that were chosen by score and now belong to the random part"
        raise InputError(f"{got}, need the same PAIRS and --random as when they were given")


def _disputed(rest: Sequence[int], gap_P: NDArray[np.float64], threshold: float | None) -> list[int]:
    """Return the half of the indices whose gaps are largest, largest first; all of them without a threshold."""
    num = len(rest) if threshold is None else (len(rest) + 1) // 2
    return sorted(rest, key=lambda i: -abs(gap_P[i]))[:num]


def _scores(pairs: Sequence[SampledPair], name: str) -> NDArray[np.float64] | None:
    """Return the pairs' scores, shape ``(P,)``; None where one is missing."""
    scores = [getattr(pair, name) for pair in pairs]
    return None if None in scores else np.array(scores, dtype=np.float64)


def _ranks(score_P: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each score's rank, shape ``(P,)``, equal scores with their mean; SciPy's takes seconds to import."""
    _, index_P, nums = np.unique(score_P, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(nums) - (nums - 1) / 2)[index_P])
