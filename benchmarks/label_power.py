"""Check `simile labels power`: what it predicts from a pilot of 200 pairs, beside repeated evaluations of real pairs.

The population is all pairs of three sets of clinc150; untouched MiniLM is the baseline and untouched MPNet the bundle.
MPNet's scores of the positive pairs are moved by a constant, so that its gain in the population is known.

Shape suffix: P = pairs.
"""

import json
import sys
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import SIMILE, place_parser, run
from numpy.typing import NDArray
from results_file import origin, replace_section, result_file, table, write_result
from scipy.optimize import brentq

from evaluation.bootstrap import difference, num_units
from labelling.pilot import fit
from labelling.power import power_of
from simile.artifacts import Pair, PairSet, read_labelled_pairs
from simile.scoring import load
from simile.scoring.metrics import spearman

SETS = ("dev", "test-seen", "test-unseen")
SIZES, GAINS = (200, 1000), (0.02, 0.05, 0.1)
PILOT, GROUPS = 200, 80
ABOUT = f"""\
{{origin}} the share of {{draws}} real evaluations that pass, and in parentheses what the command predicts: the mean
over {{pilots}} pilots of {PILOT} pairs, and the standard deviation between pilots. The population is the {{pairs}}
pairs of clinc150's {", ".join(SETS)}. The baseline is untouched MiniLM. The bundle is untouched MPNet, whose scores of
positive pairs are moved by a constant, so that its gain in the population is that of the column. "Texts": pairs are
drawn without replacement, and their groups are not told. "Groups": {GROUPS} of the 150 groups are drawn with
replacement, each time as a group of its own, then pairs of each class in equal numbers within and between them. Pilots
are drawn in the same way as the sets. Every evaluation is the gate's, with 1,000 resamples."""

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Population:
    """Labelled pairs and their scores."""

    rows: list[Pair]
    baseline_P: NDArray[np.float32]
    bundle_P: NDArray[np.float32]

    @property
    def label_P(self) -> Index:
        """Label of each pair."""
        return np.array([row.label for row in self.rows])

    def moved(self, gain: float) -> NDArray[np.float32]:
        """Return the bundle's scores, moved so that their Spearman exceeds the baseline's by this gain."""
        label_P = self.label_P
        goal = spearman(self.baseline_P, label_P) + gain
        move = brentq(lambda move: spearman(self.bundle_P + move * label_P, label_P) - goal, -0.5, 0.5, xtol=1e-6)
        return (self.bundle_P + move * label_P).astype(np.float32)


Draw = Callable[[int, np.random.Generator], tuple[PairSet, Index]]
"""Returns a drawn set of a size, and which pair of the population each of its pairs is."""


def main() -> None:
    """Measure the designs and sizes that have no result yet, and write the section."""
    parser = place_parser(__doc__)
    parser.add_argument("--draws", type=int, default=300, metavar="N", help="real evaluations (default: %(default)s)")
    parser.add_argument("--pilots", type=int, default=12, metavar="N", help="pilots (default: %(default)s)")
    parser.add_argument("--units", nargs="+", choices=("texts", "groups"), default=["texts", "groups"])
    args = parser.parse_args()
    population = read_population(args.data / "clinc150", args.work / "label-power")
    results, designs = [], {"texts": of_texts, "groups": of_groups}
    for name in args.units:
        draw = designs[name](population)
        for size in SIZES:
            file = result_file(args.results / "label-power", f"{name}-{size}")
            if not file.is_file():
                write_result(file, {"units": name, "size": size} | measure(population, draw, size, args))
            results.append(json.loads(file.read_text()))
            print(rows_of(results[-1]), file=sys.stderr, flush=True)
    pilots = len(results[0]["predicted"])
    facts = {"draws": results[0]["draws"], "pilots": pilots, "pairs": f"{len(population.rows):,}"}
    header = ["units", "pairs", "width", *(f"gain {gain:.2f}" for gain in GAINS)]
    text = ABOUT.format(origin=origin(results).removesuffix(":") + ". Each cell is", **facts)
    section = f"{textwrap.fill(text, 120)}\n\n{table(header, map(rows_of, results))}"
    replace_section(args.out, "label-power", section)


def read_population(folder: Path, work: Path) -> Population:
    """Return all pairs of the sets with the scores of both untouched encoders, which are kept in the work folder."""
    sets = [read_labelled_pairs(folder / f"{name}.jsonl.gz") for name in SETS]
    rows = [row for pairs in sets for row in pairs.rows]
    scores = []
    for base in ("minilm", "mpnet"):
        file, bundle = work / f"{base}.npy", work / base
        if not file.is_file():
            if not bundle.is_dir():
                run([*SIMILE, "baseline", f"bundled:{base}", "--out", bundle])
            scorer = load(bundle, device="cpu", precision="int8")
            np.save(file, scorer.score([(row.text_a, row.text_b) for row in rows]))
        scores.append(np.load(file))
    return Population(rows, *scores)


def of_texts(population: Population) -> Draw:
    """Return a draw of single pairs without replacement; nobody knows their groups."""
    rows = [replace(row, group_a=None, group_b=None) for row in population.rows]

    def draw(size: int, rng: np.random.Generator) -> tuple[PairSet, Index]:
        index_P = rng.choice(len(rows), size, replace=False)
        return PairSet("drawn", tuple(rows[i] for i in index_P), ""), index_P

    return draw


def of_groups(population: Population) -> Draw:
    """Return a draw of groups with replacement, and of pairs of each class in equal numbers within and between them."""
    rows = population.rows
    ends = [(str(row.group_a), str(row.group_b)) for row in rows]
    groups = sorted({group for pair in ends for group in pair})

    def draw(size: int, rng: np.random.Generator) -> tuple[PairSet, Index]:
        copies = defaultdict(list)
        for copy, group in enumerate(rng.choice(groups, GROUPS)):
            copies[group].append(copy)
        there = [(i, *copy) for i, pair in enumerate(ends) for copy in _copies(pair, copies)]
        classes = [[one for one in there if rows[one[0]].label == label] for label in (0, 1)]
        drawn = [one[j] for one in classes for j in rng.choice(len(one), size // 2, replace=False)]
        pairs = tuple(replace(rows[i], group_a=f"group {a}", group_b=f"group {b}") for i, a, b in drawn)
        return PairSet("drawn", pairs, ""), np.array([i for i, *_ in drawn])

    return draw


def _copies(pair: tuple[str, str], copies: dict[str, list[int]]) -> Iterator[tuple[int, int]]:
    """Yield the drawn groups that the pair lies within or between."""
    first, second = pair
    for a in copies.get(first, ()):
        yield from [(a, a)] if first == second else ((a, b) for b in copies.get(second, ()))


def measure(population: Population, draw: Draw, size: int, args: Any) -> dict[str, Any]:
    """Return the shares of real evaluations that pass, and what pilots predict."""
    moved = {gain: population.moved(gain) for gain in GAINS}
    rng = np.random.default_rng([0, size])
    passes, widths, units = defaultdict(list), [], []
    for _ in range(args.draws):
        pairs, index_P = draw(size, rng)
        for gain, bundle_P in moved.items():
            interval = difference(pairs, bundle_P[index_P], population.baseline_P[index_P])
            passes[gain].append(interval.low > 0)
        widths.append(interval.high - interval.low)
        units.append(num_units(pairs))
    predicted = [predict(population, draw, size, np.random.default_rng([1, pilot])) for pilot in range(args.pilots)]
    return {
        "draws": args.draws,
        "real": {f"{gain:g}": float(np.mean(passed)) for gain, passed in passes.items()},
        "real_width": float(np.mean(widths)),
        "real_units": float(np.mean(units)),
        "predicted": predicted,
    }


def predict(population: Population, draw: Draw, size: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return what the command says of this size, given a new pilot."""
    pairs, index_P = draw(PILOT, rng)
    model = fit(pairs, population.baseline_P[index_P].astype(float), population.bundle_P[index_P].astype(float))
    units = num_units(pairs) if pairs.have_groups else round(num_units(pairs) / PILOT * size)
    return power_of(model, (size, units), difference=difference, gains=GAINS).model_dump()


def rows_of(result: dict[str, Any]) -> list[str]:
    """Return the row of a design and size."""
    widths = [one["width"] for one in result["predicted"]]
    cells = []
    for gain, real in result["real"].items():
        chances = [100 * one["chances"][gain] for one in result["predicted"]]
        cells.append(f"{100 * real:.0f} % ({np.mean(chances):.0f} ± {np.std(chances, ddof=1):.0f})")
    return [result["units"], f"{result['size']:,}", f"{result['real_width']:.3f} ({np.mean(widths):.3f})", *cells]


if __name__ == "__main__":
    main()
