"""An evaluation as a page.

Shape suffix: P = pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.evaluate import Evaluation
from simile.artifacts import PairSet
from simile.reports import Block, callout, details, examples, heading, histogram_row, intervals, page, paragraph, table

_EXAMPLES = 6
_LEGEND = (
    "Spearman's rank correlation of score and label: baseline, Simile, and the difference with its 95 % interval. "
    "With 0/1 labels in equal shares no model can exceed 0.866. TF-IDF alone is what word overlap reaches."
)
_COLUMNS = (
    "set",
    "pairs",
    "baseline",
    "Simile",
    "difference",
    "low",
    "high",
    "AUC",
    "separability",
    "overlap",
    "TF-IDF alone",
)


def to_page(evaluation: Evaluation, sets: Sequence[PairSet], *, extra: Sequence[Block] = ()) -> str:
    """Return the evaluation as a self-contained HTML page.

    Args:
        evaluation: what was found.
        sets: the judged sets and guards, to show their pairs.
        extra: blocks to close the page with, such as training curves.
    """
    report = evaluation.report
    entries = {**report["sets"], **report["guards"]}
    is_calibrated = any("calibration_error" in entry["bundle"] for entry in entries.values())
    blocks: list[Block] = [
        *_verdict(report),
        heading("Figures"),
        paragraph(_LEGEND),
        *([paragraph(_about_calibration(report))] if is_calibrated else []),
        _table(entries, is_calibrated=is_calibrated),
    ]
    compared = [
        (name, entry["difference"])
        for name, entry in entries.items()
        if entry["difference"] and None not in entry["difference"].values()
    ]
    if compared:
        rows = [(name, found["spearman"], found["low"], found["high"]) for name, found in compared]
        blocks.append(intervals("Spearman gained over the baseline, with 95 % intervals", rows, spec="+.3f"))
    for pairs in sets:
        blocks += _of_set(pairs, evaluation.scores[pairs.name])
    blocks += [*extra, _how(report)]
    bundle = report["bundle"]
    provider = bundle["provider"].removesuffix("ExecutionProvider")
    return page(
        f"Evaluation of {bundle['name']}",
        f"sha256:{bundle['digest'][:16]} on {provider}, {bundle['precision']}",
        blocks,
    )


def _verdict(report: Mapping[str, Any]) -> list[Block]:
    if report["verdict"] is None:
        return []
    if report["verdict"] == "pass":
        return [callout("good", "; ".join(report["reasons"]), title="The gate says yes")]
    return [callout("bad", "; ".join(report["reasons"]), title="The gate says no")]


def _about_calibration(report: Mapping[str, Any]) -> str:
    share = (
        "of the pairs that they were fitted on" if report["prior"] is None else f"that was given, {report['prior']:g}"
    )
    return (
        "ECE, the expected calibration error: how far probabilities are from the shares of positives, in 15 bins. "
        f"They assume the share of positives {share}; a set with another one shows that too."
    )


def _table(entries: Mapping[str, Any], *, is_calibrated: bool) -> Block:
    rows = []
    for name, entry in entries.items():
        found, difference = entry["bundle"], entry["difference"] or {}
        rows.append(
            (
                name,
                entry["pairs"],
                (entry["baseline"] or {}).get("spearman"),
                found["spearman"],
                *(difference.get(key) for key in ("spearman", "low", "high")),
                *(found.get(key) for key in ("auc", "separability", "overlap")),
                entry["lexical"]["spearman"],
                *([found.get("calibration_error")] if is_calibrated else []),
            )
        )
    columns = (*_COLUMNS, "ECE") if is_calibrated else _COLUMNS
    return table(columns, rows, formats=dict.fromkeys(("difference", "low", "high"), "+.3f"))


def _of_set(pairs: PairSet, scores: Mapping[str, NDArray[np.float32]]) -> list[Block]:
    if pairs.is_graded:
        return []
    panels = {
        ("Simile" if who == "bundle" else "baseline"): scores[who] for who in ("baseline", "bundle") if who in scores
    }
    is_positive_P = pairs.target_P == 1
    blocks = [
        heading(pairs.name),
        histogram_row(
            {
                title: {"positive pairs": score_P[is_positive_P], "negative pairs": score_P[~is_positive_P]}
                for title, score_P in panels.items()
            },
            x_label="score",
            limits=(-0.2, 1),
        ),
    ]
    wrong = [
        examples("Positive pairs with the lowest scores", _worst(pairs, scores, positive=True)),
        examples("Negative pairs with the highest scores", _worst(pairs, scores, positive=False)),
    ]
    return [*blocks, details("The pairs it gets most wrong", wrong)]


def _worst(
    pairs: PairSet, scores: Mapping[str, NDArray[np.float32]], *, positive: bool
) -> list[tuple[str, str, dict[str, str | float | None]]]:
    label, sign = (1, 1) if positive else (0, -1)
    of_class = np.flatnonzero(pairs.target_P == label)
    order = of_class[np.argsort(sign * scores["bundle"][of_class], kind="stable")][:_EXAMPLES]
    return [
        (
            pairs.rows[i].text_a,
            pairs.rows[i].text_b,
            {("Simile" if who == "bundle" else who): float(score_P[i]) for who, score_P in scores.items()},
        )
        for i in order
    ]


def _how(report: Mapping[str, Any]) -> Block:
    interval = report["interval"]
    leaked = report["leaked_texts"]
    lines = [
        paragraph(
            f"Intervals: {interval['resamples']:,} resamples, seed {interval['seed']}. Drawn are "
            + ", ".join(f"{unit}s in {name}" for name, unit in interval["unit"].items())
            + ": pairs share them, and drawing pairs would make the intervals too narrow."
        ),
        paragraph(
            "Whether texts were trained on is not known: the training's work folder is not beside the bundle."
            if leaked is None
            else f"Texts of these sets that were trained on: {sum(leaked.values())}."
        ),
    ]
    return details("How this was measured", lines)
