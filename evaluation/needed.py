"""How many pairs would settle a verdict that is not sure yet.

The width of an interval shrinks with the square root of the number of units. If the observed difference is the true
one, it is found on the right side of a bound with a chance of 80 % where it lies 1 + 0.84 / 1.96 half widths away from
it: the first half width is the interval's, the rest is for what another sample of pairs would give by chance.

The gate's intervals are wider than the differences of samples vary, so this is rather too many pairs. `simile labels
power` simulates instead.
"""

import math
from collections.abc import Mapping, Sequence

from scipy.stats import norm

from evaluation.bootstrap import ALPHA, num_units
from simile.artifacts import GuardResult, Looks, NeededPairs, PairSet, SetEvaluation

CHANCE = 0.8
"""The chance with which the needed pairs settle the verdict."""
_HALF_WIDTHS = 1 + norm.ppf(CHANCE) / norm.ppf(1 - ALPHA / 2)
_MOST = 1_000_000
"""The largest multiple of the pairs that is told: beyond it, the difference lies on the bound."""


def needed_for_gains(
    sets: Sequence[PairSet], entries: Mapping[str, SetEvaluation], *, looks: Mapping[str, Looks]
) -> dict[str, NeededPairs]:
    """Return the size of each set that would show its gain, by name, where the interval contains 0 and the gain not."""
    needed = {}
    for pairs in sets:
        gain, low = entries[pairs.name].difference, looks[pairs.name].low
        if gain and gain.spearman is not None and low is not None and low <= 0 < gain.spearman:
            needed[pairs.name] = _needed(pairs, gain.spearman, gain.spearman - low)
    return {name: one for name, one in needed.items() if one}


def needed_for_guards(
    guards: Sequence[PairSet],
    entries: Mapping[str, SetEvaluation],
    *,
    results: Mapping[str, GuardResult],
    margin: float,
) -> dict[str, NeededPairs]:
    """Return the size of each undecided guard that would tell whether more than the margin is lost, by name."""
    needed = {}
    for pairs in guards:
        gain = entries[pairs.name].difference
        if results[pairs.name] != "undecided" or gain is None:
            continue
        if gain.spearman is not None and gain.low is not None and gain.high is not None:
            distance = gain.spearman + margin
            half_width = gain.spearman - gain.low if distance > 0 else gain.high - gain.spearman
            needed[pairs.name] = _needed(pairs, abs(distance), half_width)
    return {name: one for name, one in needed.items() if one}


def _needed(pairs: PairSet, distance: float, half_width: float) -> NeededPairs | None:
    """Return the size at which the half width is as much less than the distance from the bound as it has to be."""
    if distance * math.sqrt(_MOST) < _HALF_WIDTHS * half_width:
        return None
    times = (_HALF_WIDTHS * half_width / distance) ** 2
    return NeededPairs(pairs=_rounded(times * len(pairs.rows)), units=_rounded(times * num_units(pairs)))


def _rounded(number: float) -> int:
    """Return the number rounded up to two digits: more would claim too much."""
    step = int(10 ** max(0, math.floor(math.log10(number)) - 1))
    return math.ceil(number / step) * step
