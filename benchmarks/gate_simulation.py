"""Simulate the gate: how often it calls a bundle better that is not, and how often one that is, by number of groups.

The models' scores are drawn, not computed. The table goes into docs/evaluation.md and is the same on every machine.

Shape suffixes: G = groups, N = texts, P = pairs.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from results_file import replace_section, table
from scipy.stats import norm

from evaluation.bootstrap import difference
from simile.artifacts import Pair, PairSet

BASELINE = 0.5
"""Spearman of the baseline in a large sample."""
PAIRS_PER_GROUP, TEXTS_PER_GROUP = 12, 8
GROUP, TEXT, TWO_GROUPS = 0.35, 0.25, 0.1
"""Shares of a score's variance within a class that the pair's groups, texts, and combination of groups determine. The
rest is of the single pair."""
SHARED = 0.9
"""Share of each of these variances that both models have in common: they find the same pairs hard."""
ABOUT = f"""\
Each cell is the share of the draws in which the low end of the interval is above 0. A draw has new groups, texts, pairs
and models. Half of the pairs lie within a group and half between two groups, {PAIRS_PER_GROUP} pairs per group. Groups
have about {TEXTS_PER_GROUP} texts; in the uneven ones, sizes differ by a factor of 10 and more. A score is the class
plus effects of the pair's groups ({GROUP} of the variance within a class), texts ({TEXT}), combination of groups
({TWO_GROUPS}) and of the pair itself. Both models have {SHARED} of these variances in common. The baseline's Spearman
is {BASELINE} in a large sample. With 500 draws, a true share of 2.5 % shows as up to 3.9 %."""


class Draw(NamedTuple):
    """A set of pairs, and how two models score it."""

    pairs: PairSet
    bundle_P: NDArray[np.float32]
    baseline_P: NDArray[np.float32]


def main() -> None:
    """Simulate all cells, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, nargs="+", default=[4, 5, 6, 8, 12, 20, 30, 50], metavar="G")
    parser.add_argument("--draws", type=int, default=500, metavar="N")
    parser.add_argument("--out", type=Path, default=Path("docs/evaluation.md"))
    args = parser.parse_args()
    columns = {"no difference": (0.0, 0.5), "no difference, uneven groups": (0.0, 1.0)}
    columns |= {"0.05 better": (0.05, 0.5), "0.1 better": (0.1, 0.5)}
    rows = []
    for groups in args.groups:
        shares = [share_better(groups, gain, spread, args.draws) for gain, spread in columns.values()]
        rows.append([str(groups), *(f"{100 * share:.1f} %" for share in shares)])
        print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    command = ["--groups", *map(str, args.groups), "--draws", str(args.draws)]
    parts = [f"```\npython benchmarks/gate_simulation.py {shlex.join(command)}\n```", ABOUT]
    replace_section(args.out, "gate-simulation", "\n\n".join([*parts, table(["groups", *columns], rows)]))


def share_better(groups: int, gain: float, spread: float, draws: int) -> float:
    """Return the share of the draws in which the bundle is called better, if it is better by this Spearman."""
    # The same groups, texts and pairs for every gain: the columns are comparable.
    rng = np.random.default_rng([groups, round(100 * spread)])
    intervals = [difference(*draw(groups, gain, spread, rng)) for _ in range(draws)]
    return sum(interval.low > 0 for interval in intervals) / draws


def draw(groups: int, gain: float, spread: float, rng: np.random.Generator) -> Draw:
    """Return pairs of this many groups, whose sizes have this standard deviation of their logarithm."""
    size_G = np.clip(np.round(rng.lognormal(np.log(TEXTS_PER_GROUP), spread, groups)), 2, 100).astype(np.int64)
    group_N = np.repeat(np.arange(groups), size_G)
    a_P, b_P = _ends(size_G, group_N, PAIRS_PER_GROUP * groups, rng)
    is_positive_P = group_N[a_P] == group_N[b_P]
    effects = [_Effects(groups, len(group_N), len(a_P), rng) for _ in range(3)]
    shared_P, *own = (one.of_pairs(a_P, b_P, group_N) for one in effects)
    # A Spearman of r with 0/1 labels in equal shares is an AUC of 0.5 + r / sqrt(3).
    shifts = [np.sqrt(2) * norm.ppf(0.5 + target / np.sqrt(3)) for target in (BASELINE + gain, BASELINE)]
    bundle_P, baseline_P = (
        (is_positive_P * shift + np.sqrt(SHARED) * shared_P + np.sqrt(1 - SHARED) * own_P).astype(np.float32)
        for shift, own_P in zip(shifts, own, strict=True)
    )
    rows = [
        Pair(
            f"text {a}",
            f"text {b}",
            label=int(group_N[a] == group_N[b]),
            group_a=f"{group_N[a]}",
            group_b=f"{group_N[b]}",
        )
        for a, b in zip(a_P, b_P, strict=True)
    ]
    return Draw(PairSet("drawn", tuple(rows), "0" * 64), bundle_P, baseline_P)


def _ends(
    size_G: NDArray[np.int64], group_N: NDArray[np.int64], num: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the two texts of each pair, shape ``(P,)``: half of one group, half of two, drawn like the texts."""
    num_texts = len(group_N)
    a_P = rng.integers(0, num_texts, num)
    first_G = np.cumsum(size_G) - size_G
    group_P = group_N[a_P]
    step_P = 1 + rng.integers(0, size_G[group_P] - 1)
    within_P = first_G[group_P] + (a_P - first_G[group_P] + step_P) % size_G[group_P]
    # Steps that leave a group at its end and return to it at its start.
    step_P = rng.integers(0, num_texts - size_G[group_P])
    between_P = (first_G[group_P] + size_G[group_P] + step_P) % num_texts
    return a_P, np.where(np.arange(num) < num // 2, within_P, between_P)


class _Effects:
    """Random effects of one model, each with a variance of 1."""

    def __init__(self, groups: int, texts: int, pairs: int, rng: np.random.Generator) -> None:
        self.within_G, self.between_G = rng.normal(size=(2, groups))
        self.text_N, self.pair_P = rng.normal(size=texts), rng.normal(size=pairs)
        self.groups_GG = rng.normal(size=(groups, groups))

    def of_pairs(
        self, a_P: NDArray[np.int64], b_P: NDArray[np.int64], group_N: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return their weighted sum for each pair, with a variance of 1."""
        ga_P, gb_P = np.sort([group_N[a_P], group_N[b_P]], axis=0)
        between_P = (self.between_G[ga_P] + self.between_G[gb_P]) / np.sqrt(2)
        parts = {
            GROUP: np.where(ga_P == gb_P, self.within_G[ga_P], between_P),
            TEXT: (self.text_N[a_P] + self.text_N[b_P]) / np.sqrt(2),
            TWO_GROUPS: self.groups_GG[ga_P, gb_P],
            1 - GROUP - TEXT - TWO_GROUPS: self.pair_P,
        }
        return np.sum([np.sqrt(share) * effect_P for share, effect_P in parts.items()], axis=0)


if __name__ == "__main__":
    main()
