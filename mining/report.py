"""What mining found, as figures (JSON) and as a page.

Shape suffix: P = pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mining.mine import Mined
from simile.artifacts import Pair
from simile.progress import Progress
from simile.reports import Block, callout, details, examples, figure_row, heading, histogram, page, paragraph, table
from simile.scoring import Scorer
from simile.scoring.metrics import figures, known, spearman

SHORTCUT_LIMIT = 0.05
"""TF-IDF alone may order matched pairs no better than this."""
TARGET_LIMIT = 0.05
"""Share of the pairs that may lie elsewhere than the target's do."""
_MEASURED = 2000
"""Pairs of each set that the baseline scores: enough for two digits, and quick."""
_EXAMPLES = 8


def describe(mined: Mined, baseline: Scorer | None, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of each set: sizes, shortcuts, and how hard it is for the baseline."""
    sampled = {name: pairs[:_MEASURED] for name, pairs in mined.sets.items()}
    scores = _baseline_scores(baseline, sampled) if baseline else {}
    sets = {}
    for name, pairs in mined.sets.items():
        entry: dict[str, Any] = {
            "pairs": len(pairs),
            "positives": sum(pair.label == 1 for pair in pairs),
            "texts": len({text for pair in pairs for text in (pair.text_a, pair.text_b)}),
            "same_category_negatives": _same_category_share(pairs),
            "alone": _shortcuts(pairs),
            "baseline": None,
        }
        if name in scores:
            entry["baseline"] = known(figures(scores[name], _labels(sampled[name]), is_graded=False))
        sets[name] = entry
    warnings = _warnings(mined, sets)
    return {**mined.facts, "config": dict(config), "sets": sets, "baseline_pairs": _MEASURED, "warnings": warnings}


def _baseline_scores(baseline: Scorer, sampled: Mapping[str, Sequence[Pair]]) -> dict[str, NDArray[np.float32]]:
    num_texts = sum(len({text for pair in pairs for text in (pair.text_a, pair.text_b)}) for pairs in sampled.values())
    with Progress("measuring difficulty", num_texts * len(baseline.members), "texts") as progress:
        return {
            name: baseline.score_members([(pair.text_a, pair.text_b) for pair in pairs], progress.advance).score_P
            for name, pairs in sampled.items()
        }


def _labels(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    return np.array([pair.label for pair in pairs], dtype=np.float64)


def _shortcuts(pairs: Sequence[Pair]) -> dict[str, float | None]:
    """Return the Spearman that each cheap feature reaches alone; None where it is constant or not known."""
    label_P = _labels(pairs)
    features = {
        "tfidf": np.array([pair.tfidf for pair in pairs], dtype=np.float64),
        "length_ratio": np.array([_length_ratio(pair) for pair in pairs]),
        "same_category": np.array([bool(pair.same_category) for pair in pairs], dtype=np.float64),
    }
    return known({name: spearman(feature_P, label_P) for name, feature_P in features.items()})


def _length_ratio(pair: Pair) -> float:
    lengths = sorted((len(pair.text_a), len(pair.text_b)))
    return lengths[0] / lengths[1]


def _same_category_share(pairs: Sequence[Pair]) -> float | None:
    known = [pair.same_category for pair in pairs if pair.label == 0 and pair.same_category is not None]
    return float(np.mean(known)) if known else None


def _warnings(mined: Mined, sets: Mapping[str, Any]) -> list[str]:
    found = []
    if mined.facts["labels_are_noisy"]:
        found.append("the documents have no groups: pairs are labelled by category, and such labels are noisy")
    if (num := sets["pairs"]["pairs"]) < mined.facts["wanted"]:
        found.append(f"the documents give {num:,} pairs, {mined.facts['wanted']:,} were wanted")
    alone = sets["pairs"]["alone"]["tfidf"]
    if alone is not None and abs(alone) > SHORTCUT_LIMIT:
        found.append(f"TF-IDF alone reaches Spearman {alone:.3f} on the training pairs: a model can learn word overlap")
    if mined.facts["target_is_followed"] is False:
        found.append("recipe 'bands' has its own bands: the target's texts are kept out, its TF-IDF is not followed")
    distance = mined.facts["distance_to_target"]
    if distance is not None and distance > TARGET_LIMIT:
        found.append(
            f"{distance:.0%} of the pairs lie in other TF-IDF bins than the target's: the documents give no more"
        )
    for lacking in ("no group", "no category"):
        if num := mined.facts["dropped"].get(lacking):
            found.append(f"{num:,} documents have {lacking}: they were left out")
    if mined.facts["cut"]:
        found.append(f"{mined.facts['cut']:,} texts were too long and were cut")
    return found


def to_page(report: Mapping[str, Any], mined: Mined) -> str:
    """Return the report as a self-contained HTML page."""
    pairs = mined.sets["pairs"]
    blocks: list[Block] = [callout("note", text) for text in report["warnings"]]
    blocks += [
        heading("The sets"),
        paragraph(
            "Training pairs (pairs) and the sets held out from them. The baseline's figures are of the first "
            f"{_MEASURED:,} pairs of each set. TF-IDF alone should be near 0: words must not give the label away."
        ),
        table(
            ["set", "pairs", "positive", "texts", "baseline Spearman", "separability", "overlap", "TF-IDF alone"],
            [_row(name, entry) for name, entry in report["sets"].items()],
        ),
        heading("Lexical overlap"),
        paragraph("TF-IDF cosines of the two classes. Where the curves agree, a model has to learn the meaning."),
        figure_row(
            *(
                histogram(name, _tfidf_by_class(of_set), x_label="TF-IDF cosine", bins=25)
                for name, of_set in mined.sets.items()
            )
        ),
        heading("Pairs to read"),
        examples("Positive pairs with the least words in common", _extremes(pairs, label=1)),
        examples("Negative pairs with the most words in common", _extremes(pairs, label=0)),
        details(
            "What was left out, and how the documents were split",
            [
                table(["reason", "documents"], list(report["dropped"].items())),
                table(
                    ["set", "documents", "groups"],
                    [(name, entry["documents"], entry["groups"]) for name, entry in report["split"].items()],
                ),
                table(["setting", "value"], [(name, str(value)) for name, value in report["config"].items()]),
            ],
        ),
    ]
    subtitle = f"{len(pairs):,} training pairs from {report['documents']:,} documents in {report['groups']:,} groups"
    return page("Mined pairs", subtitle, blocks)


def _row(name: str, entry: Mapping[str, Any]) -> tuple[str | int | float | None, ...]:
    baseline = entry["baseline"] or {}
    return (
        name,
        entry["pairs"],
        entry["positives"],
        entry["texts"],
        baseline.get("spearman"),
        baseline.get("separability"),
        baseline.get("overlap"),
        entry["alone"]["tfidf"],
    )


def _tfidf_by_class(pairs: Sequence[Pair]) -> dict[str, list[float]]:
    return {
        name: [float(pair.tfidf or 0) for pair in pairs if pair.label == label]
        for name, label in (("positive", 1), ("negative", 0))
    }


def _extremes(pairs: Sequence[Pair], *, label: int) -> list[tuple[str, str, dict[str, str | float | None]]]:
    sign = 1 if label else -1
    chosen = sorted((pair for pair in pairs if pair.label == label), key=lambda pair: sign * float(pair.tfidf or 0))
    return [
        (
            pair.text_a,
            pair.text_b,
            {"TF-IDF": pair.tfidf, "groups": " / ".join(dict.fromkeys((str(pair.group_a), str(pair.group_b))))},
        )
        for pair in chosen[:_EXAMPLES]
    ]
