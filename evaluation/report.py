"""The evaluation report as a page.

Shape suffix: P = pairs.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.evaluate import Evaluation
from simile import reports
from simile.artifacts import BundleReport, EvaluatedBundle, EvaluatedEndpoint, EvaluationReport, PairSet, SetEvaluation
from simile.reports import Block, Value

_NUM_EXAMPLES = 6
_LEGEND = (
    "Spearman's rank correlation of score and label for the baseline and for {judged}, and their difference with its "
    "95 % interval. With 0/1 labels in equal shares no model can exceed 0.866. TF-IDF alone is what word overlap "
    "reaches."
)
_NO_HASHES = "the bundle has no list of its training texts' hashes."


def to_page(evaluation: Evaluation, sets: Sequence[PairSet], *, extra: Sequence[Block] = ()) -> str:
    """Return the evaluation as a self-contained HTML page.

    It shows pairs of the sets (and guards), and ends with ``extra`` blocks, such as training curves.
    """
    report, column = evaluation.report, evaluation.report.judged_column
    is_calibrated = any(entry.bundle.calibration_error is not None for entry in report.all_sets.values())
    blocks: list[Block] = [
        *_verdict(report),
        reports.heading("Figures"),
        reports.paragraph(_LEGEND.format(judged="the endpoint" if column == "endpoint" else column)),
        *([reports.paragraph(_about_calibration(report))] if is_calibrated else []),
        _table(report.all_sets, column, is_calibrated=is_calibrated),
        *(reports.callout("note", text) for text in report.notes),
        *_intervals(report),
    ]
    for pairs in sets:
        blocks += _scores_of(pairs, evaluation.scores[pairs.name], column)
    blocks += [*extra, _method(report)]
    return reports.page(f"Evaluation of {report.bundle.name}", _subtitle(report), blocks)


def _subtitle(report: EvaluationReport) -> str:
    """Return what was judged, and the baseline where an endpoint takes part: its name alone says little."""
    baseline = report.baseline
    if baseline is None or isinstance(report, BundleReport):
        return _description(report.bundle)
    return f"{_description(report.bundle)}; baseline: {baseline.name}, {_description(baseline)}"


def _description(judged: EvaluatedBundle | EvaluatedEndpoint) -> str:
    if isinstance(judged, EvaluatedEndpoint):
        return judged.description
    return f"sha256:{judged.digest[:16]} on {judged.provider.removesuffix('ExecutionProvider')}, {judged.precision}"


def _verdict(report: EvaluationReport) -> list[Block]:
    if report.verdict is None:
        return []
    passed = report.verdict == "pass"
    title = "The gate passes" if passed else "The gate fails"
    return [reports.callout("good" if passed else "bad", "; ".join(report.reasons), title=title)]


def _about_calibration(report: EvaluationReport) -> str:
    share = "of the pairs that they were fitted on" if report.prior is None else f"that was given, {report.prior:g}"
    return (
        "ECE is the expected calibration error: how far probabilities are from the shares of positives, in 15 bins. "
        f"The probabilities assume the share of positives {share}; the error on a set with another share includes that "
        "difference."
    )


def _table(entries: Mapping[str, SetEvaluation], column: str, *, is_calibrated: bool) -> Block:
    rows: list[dict[str, Value]] = []
    for name, entry in entries.items():
        figures, gain = entry.bundle, entry.difference
        row: dict[str, Value] = {
            "set": name,
            "pairs": entry.pairs,
            "baseline": entry.baseline.spearman if entry.baseline else None,
            column: figures.spearman,
            "difference": gain.spearman if gain else None,
            "low": gain.low if gain else None,
            "high": gain.high if gain else None,
            "AUC": figures.auc,
            "separability": figures.separability,
            "overlap": figures.overlap,
            "TF-IDF alone": entry.lexical.spearman,
        }
        rows.append(row | ({"ECE": figures.calibration_error} if is_calibrated else {}))
    formats = dict.fromkeys(("difference", "low", "high"), "+.3f")
    return reports.table(list(rows[0]), [tuple(row.values()) for row in rows], formats=formats)


def _intervals(report: EvaluationReport) -> list[Block]:
    rows = [
        (name, gain.spearman, gain.low, gain.high)
        for name, entry in report.all_sets.items()
        if (gain := entry.difference) and None not in (gain.spearman, gain.low, gain.high)
    ]
    title = "Gain in Spearman over the baseline, with 95 % intervals"
    return [reports.intervals(title, rows, spec="+.3f")] if rows else []


def _scores_of(pairs: PairSet, scores: Mapping[str, NDArray[np.float32]], column: str) -> list[Block]:
    """Return the score histograms of a labelled set, and the pairs that are scored most wrongly."""
    if pairs.is_graded:
        return []
    is_positive_P = pairs.target_P == 1
    panels = {
        title: {"positive pairs": scores[role][is_positive_P], "negative pairs": scores[role][~is_positive_P]}
        for role, title in (("baseline", "baseline"), ("bundle", column))
        if role in scores
    }
    wrong = [
        reports.examples("Positive pairs with the lowest scores", _worst(pairs, scores, column, positive=True)),
        reports.examples("Negative pairs with the highest scores", _worst(pairs, scores, column, positive=False)),
    ]
    return [
        reports.heading(pairs.name),
        reports.histogram_row(panels, x_label="score", limits=(-0.2, 1)),
        reports.details("The pairs it gets most wrong", wrong),
    ]


def _worst(
    pairs: PairSet, scores: Mapping[str, NDArray[np.float32]], column: str, *, positive: bool
) -> list[tuple[str, str, dict[str, Value]]]:
    index = np.flatnonzero(pairs.target_P == positive)
    order = index[np.argsort(scores["bundle"][index] * (1 if positive else -1), kind="stable")][:_NUM_EXAMPLES]
    names = {"bundle": column, "baseline": "baseline"}
    shown: list[dict[str, Value]] = [
        {names[role]: float(score_P[i]) for role, score_P in scores.items()} for i in order
    ]
    return [(pairs.rows[i].text_a, pairs.rows[i].text_b, figures) for i, figures in zip(order, shown, strict=True)]


def _method(report: EvaluationReport) -> Block:
    """Return the paragraphs on how the intervals were computed and whether test texts were trained on."""
    interval, leaked = report.interval, report.leaked_texts
    units = ", ".join(f"{unit}s of {name}" for name, unit in interval.unit.items())
    resampling = (
        f"The intervals come from {interval.resamples:,} resamples with seed {interval.seed}. The units that are "
        f"resampled are the {units}: pairs share them, and resampling pairs would make the intervals too narrow. They "
        "are widened by Student's t, because the resamples of few units vary too little."
    )
    unknown = "a server does not tell." if isinstance(report.bundle, EvaluatedEndpoint) else _NO_HASHES
    leak = (
        f"Whether texts of these sets were trained on is unknown: {unknown}"
        if leaked is None
        else f"Number of texts of these sets that were trained on: {sum(leaked.values())}."
    )
    return reports.details("How this was measured", [reports.paragraph(resampling), reports.paragraph(leak)])
