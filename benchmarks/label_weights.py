"""Measure how often the intervals of `simile labels estimate` cover the traffic's figures, with weights and without.

A labelled set is the traffic. Stratified samples are drawn from it by the untouched encoder's scores, and the figures
of the whole set are estimated from each.

Shape suffixes: P = pairs of the traffic, N = sampled pairs, S = strata, R = resamples.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness import place_parser
from numpy.typing import NDArray
from results_file import origin, replace_section, result_file, table, write_result
from sklearn.metrics import precision_recall_curve

from labelling.estimation import Estimate, Sample, auc, precision, recall, sample_of, share_of_positives, spearman
from simile.artifacts import read_labelled_pairs
from simile.scoring import load
from simile.scoring.weighted_spearman import WeightedSpearman
from training.baseline import make_baseline

Array = NDArray[np.float64]
STRATA, SAMPLED, RESAMPLES = 10, 500, 400
DRAWS, FIRST = 3000, 300
"""Number of samples, and of the first ones of which the coverage is told as well."""
NEAR, TIMES = 3, 4.0
"""So many bands, those nearest to the threshold, give so many times as many pairs as the others."""
BANDS = (0.05, 0.95)
"""Quantiles of the scores between which the bands have equal width; the outermost ones take what lies beyond."""
FIGURES = ("Spearman", "AUC", "precision", "recall", "share of positives")
METHODS = ("weights, linearization", "weights, bootstrap", "no weights")
ABOUT = f"""\
Each cell is the share of {DRAWS:,} samples whose 95 % interval covers the figure of the whole set (of the first
{FIRST} samples; mean width of the intervals), and then the mean of the estimates minus that figure. A sample has
{SAMPLED} pairs of {STRATA} bands of the scores: as many from each, and {TIMES:g} times as many from the {NEAR} bands
nearest to the threshold. Scores are those of `bundled:minilm`. The traffic of the last rows has a tenth of positives:
only a ninth of the set's positive pairs is left. The threshold has the best F1 on dev. *Linearization* is what
`simile labels estimate` computes. *Bootstrap* is Rao and Wu's rescaled one with the finite population correction
({RESAMPLES} resamples, percentiles). *No weights* takes the sample for a simple random one. With {DRAWS:,} samples, a
true coverage of 95 % shows as 94.2 to 95.8 %, with {FIRST} as 92.5 to 97.5 %."""


class Traffic(NamedTuple):
    """A labelled set, all of whose pairs are known."""

    score_P: Array
    label_P: Array

    @property
    def strata(self) -> NDArray[np.int64]:
        """The band of each score."""
        edges = np.linspace(*np.quantile(self.score_P, BANDS), STRATA + 1)[1:-1]
        return np.searchsorted(edges, self.score_P, side="right")


def main() -> None:
    """Measure what is not measured yet, and write the section."""
    parser = place_parser(__doc__)
    parser.add_argument("--final", action="store_true", help="measure test-seen too, once nothing changes any more")
    args = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    for name in ("dev", "test-seen"):
        for share in ("half", "tenth"):
            file = result_file(args.results / "label-weights", f"{name}-{share}")
            if not file.is_file() and (name == "dev" or args.final):
                write_result(file, measure(args, name, share))
            if file.is_file():
                rows[f"{name}, a {share} positive"] = json.loads(file.read_text())
    write_section(args.out, rows)


def measure(args: argparse.Namespace, name: str, share: str) -> dict[str, Any]:
    """Return coverage, mean width and mean error of each method and figure."""
    threshold = best_f1(traffic_of(args, "dev", share))
    traffic = traffic_of(args, name, share)
    whole = Sample(np.ones(len(traffic.score_P)), np.zeros(len(traffic.score_P), dtype=np.int64))
    truth = [one.value for one in estimates(whole, traffic, threshold)]
    outcomes: dict[str, list[Any]] = {method: [] for method in METHODS}
    for seed in range(DRAWS):
        drawn_N, inclusion_N = draw(traffic, threshold, np.random.default_rng(seed))
        seen = Traffic(traffic.score_P[drawn_N], traffic.label_P[drawn_N])
        sample = sample_of(inclusion_N, [str(stratum) for stratum in traffic.strata[drawn_N]])
        plain = sample_of(np.full(len(drawn_N), len(drawn_N) / len(traffic.score_P)), [None] * len(drawn_N))
        outcomes[METHODS[0]].append(estimates(sample, seen, threshold))
        outcomes[METHODS[1]].append(bootstrapped(sample, seen, threshold, np.random.default_rng([seed, 1])))
        outcomes[METHODS[2]].append(estimates(plain, seen, threshold))
    told = {method: [_summary(draws, i, value) for i, value in enumerate(truth)] for method, draws in outcomes.items()}
    print(name, share, told, file=sys.stderr, flush=True)
    return {"pairs": len(traffic.score_P), "threshold": threshold, "truth": truth, "methods": told}


def traffic_of(args: argparse.Namespace, name: str, share: str) -> Traffic:
    """Return the set's scores and labels, with all or a ninth of its positive pairs."""
    bundle = args.work / "label-weights" / "minilm"
    if not bundle.is_dir():
        make_baseline("bundled:minilm", bundle)
    pairs = read_labelled_pairs(args.data / "clinc150" / f"{name}.jsonl.gz")
    score_P = load(bundle, device="cpu", precision="fp32").score(pairs.texts).astype(np.float64)
    label_P = pairs.target_P
    if share == "tenth":
        positive_P = np.flatnonzero(label_P == 1)
        kept_P = np.random.default_rng(0).choice(positive_P, len(positive_P) // 9, replace=False)
        left_P = np.sort(np.concatenate([np.flatnonzero(label_P == 0), kept_P]))
        score_P, label_P = score_P[left_P], label_P[left_P]
    return Traffic(score_P, label_P)


def best_f1(traffic: Traffic) -> float:
    """Return the threshold with the best F1."""
    precisions, recalls, thresholds = precision_recall_curve(traffic.label_P, traffic.score_P)
    f1 = 2 * precisions * recalls / np.maximum(precisions + recalls, 1e-12)
    return float(thresholds[f1[:-1].argmax()])


def draw(traffic: Traffic, threshold: float, rng: np.random.Generator) -> tuple[NDArray[np.int64], Array]:
    """Return the numbers of a stratified sample's pairs, and the inclusion probability of each."""
    stratum_P = traffic.strata
    size_S = np.bincount(stratum_P, minlength=STRATA)
    distance_S = [np.abs(traffic.score_P[stratum_P == stratum] - threshold).mean() for stratum in range(STRATA)]
    demand_S = np.where(np.argsort(np.argsort(distance_S)) < NEAR, TIMES, 1.0)
    # Bands that are too small are taken whole, and the others give what these lack.
    num_S = np.zeros(STRATA)
    for _ in range(STRATA):
        open_S = num_S < size_S
        num_S += open_S * demand_S * (SAMPLED - num_S.sum()) / max(float(demand_S @ open_S), 1)
        num_S = np.minimum(num_S, size_S)
    whole_S = np.diff(np.round(np.cumsum(num_S)).astype(np.int64), prepend=0).clip(max=size_S)
    drawn = [rng.choice(np.flatnonzero(stratum_P == i), num, replace=False) for i, num in enumerate(whole_S)]
    return np.concatenate(drawn), np.repeat(whole_S / size_S, whole_S)


def estimates(sample: Sample, traffic: Traffic, threshold: float) -> tuple[Estimate, ...]:
    """Return the estimate of each of `FIGURES`."""
    score_N, label_N = traffic
    return (
        spearman(sample, score_N, label_N),
        auc(sample, score_N, label_N),
        precision(sample, score_N, label_N, threshold),
        recall(sample, score_N, label_N, threshold),
        share_of_positives(sample, label_N),
    )


def bootstrapped(sample: Sample, traffic: Traffic, threshold: float, rng: np.random.Generator) -> tuple[Estimate, ...]:
    """Return the same estimates with percentile intervals of the rescaled bootstrap.

    Source: Rao & Wu 1988, doi:10.1080/01621459.1988.10478591, with n - 1 draws of each stratum.
    """
    weight_RN = np.empty((RESAMPLES, len(sample.weight_P)))
    for stratum in range(sample.stratum_P.max() + 1):
        of_stratum = np.flatnonzero(sample.stratum_P == stratum)
        num, weight_N = len(of_stratum), sample.weight_P[of_stratum]
        count_RN = rng.multinomial(num - 1, np.full(num, 1 / num), size=RESAMPLES)
        rescaled_RN = 1 + np.sqrt(1 - num / weight_N.sum()) * (count_RN * num / (num - 1) - 1)
        weight_RN[:, of_stratum] = rescaled_RN * weight_N
    score_N, label_N = traffic
    resampled = (figure(weight_RN) for figure in _weighted(score_N, label_N, threshold))
    ends = [np.percentile(value_R, [2.5, 97.5]) for value_R in resampled]
    values = estimates(sample, traffic, threshold)
    return tuple(
        Estimate(value=one.value, low=float(low), high=float(high))
        for one, (low, high) in zip(values, ends, strict=True)
    )


def _weighted(score_N: Array, label_N: Array, threshold: float) -> list[Callable[[Array], Array]]:
    """Return the functions from rows of weights to each of `FIGURES`."""
    above_N, order_N = (score_N >= threshold).astype(float), np.argsort(score_N)

    def auc_of(weight_RN: Array) -> Array:
        positive_RN, negative_RN = (
            weight_RN[:, order_N] * label_N[order_N],
            weight_RN[:, order_N] * (1 - label_N[order_N]),
        )
        pairs_R = (positive_RN * np.cumsum(negative_RN, axis=1)).sum(axis=1)
        return np.asarray(pairs_R / positive_RN.sum(axis=1) / negative_RN.sum(axis=1))

    return [
        WeightedSpearman(score_N, label_N),
        auc_of,
        lambda weight_RN: (weight_RN @ (label_N * above_N)) / (weight_RN @ above_N),
        lambda weight_RN: (weight_RN @ (label_N * above_N)) / (weight_RN @ label_N),
        lambda weight_RN: (weight_RN @ label_N) / weight_RN.sum(axis=1),
    ]


def _summary(draws: list[tuple[Estimate, ...]], figure: int, truth: float | None) -> dict[str, float]:
    ends = np.array([(one[figure].value, one[figure].low, one[figure].high) for one in draws], dtype=np.float64)
    value, low, high = ends.T
    is_covered = (low <= truth) & (truth <= high)
    return {
        "covered": float(np.mean(is_covered)),
        "covered_first": float(np.mean(is_covered[:FIRST])),
        "width": float(np.mean(high - low)),
        "error": float(np.mean(value) - truth),
    }


def write_section(path: Path, rows: dict[str, dict[str, Any]]) -> None:
    """Write the table of all results into the page."""
    lines = []
    for name, result in rows.items():
        lines.append([name, "the whole set", *(f"{value:.3f}" for value in result["truth"])])
        for method, entries in result["methods"].items():
            cells = [
                f"{100 * e['covered']:.1f} % ({100 * e['covered_first']:.1f} %; {e['width']:.3f}), {e['error']:+.3f}"
                for e in entries
            ]
            lines.append(["", method, *cells])
    command = "```\npython benchmarks/label_weights.py --final\n```"
    parts = ["## Figures of the traffic from a sample", command, ABOUT, origin(rows.values())]
    replace_section(path, "label-weights", "\n\n".join([*parts, table(["traffic", "intervals", *FIGURES], lines)]))


if __name__ == "__main__":
    main()
