"""The mining report as an HTML page."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mining.matching.target import SHORTCUT_LIMIT
from mining.mine import Mined
from mining.report.comparison import View, view_of, view_of_target
from mining.sampling.label_noise import MARGIN
from simile.artifacts import BaselineFigures, JointCell, MinedSet, MiningReport
from simile.reports import (
    Block,
    Value,
    callout,
    details,
    examples,
    facts,
    heading,
    histogram_row,
    page,
    paragraph,
    table,
)

_EXAMPLES = 8
_CLASSES = (("positive", True), ("negative", False))
_BASELINE_FIGURES = ("Spearman", "AUC", "separability", "overlap")


def to_page(report: MiningReport, mined: Mined) -> str:
    """Return the report as a self-contained HTML page."""
    pairs = view_of(mined.sets["pairs"], mined.vectors)
    views = {"mined": pairs}
    if mined.target:
        views["target"] = view_of_target(mined.target)
    blocks = [
        _summary(report),
        *(callout("note", text) for text in report.warnings),
        *_sets(report),
        *_distributions(views),
        *_match(report),
        *_label_noise(report, keeps_false_negatives=mined.config.false_negatives == "report"),
        *_examples(pairs),
        _origin(report),
    ]
    num_pairs = report.training.pairs
    subtitle = f"{num_pairs:,} training pairs from {report.documents:,} documents in {report.groups:,} groups"
    return page("Mined pairs", subtitle, blocks)


def _summary(report: MiningReport) -> Block:
    training, target = report.training, report.target
    figures: dict[str, Value] = {"training pairs": training.pairs, "Spearman of TF-IDF alone": training.alone.tfidf}
    if training.baseline:
        figures["baseline's Spearman"] = training.baseline.spearman
    if target and target.baseline:
        figures["baseline's Spearman on the target"] = target.baseline.spearman
    if report.match:
        aucs = [auc.matched for auc in report.match.adversarial.values() if auc.matched is not None]
        figures["adversarial AUC (0.5: same as the target)"] = max(aucs, default=None)
    return facts(figures)


def _sets(report: MiningReport) -> list[Block]:
    entries = report.sets_and_target
    return [
        heading("How hard the pairs are"),
        paragraph(
            "The training pairs (pairs), the held-out sets, and the target that the training pairs should match. The "
            "baseline is the encoder before training: if it scores the training pairs as poorly as the target's, they "
            "are as hard."
        ),
        table(
            ["set", "pairs", "positives", "distinct texts", *(f"baseline's {name}" for name in _BASELINE_FIGURES)],
            [_difficulty(name, entry) for name, entry in entries.items()],
        ),
        heading("Shortcuts"),
        paragraph(
            "Spearman that one cheap feature reaches. A model learns such a shortcut instead of the texts' meaning. "
            f"TF-IDF alone should stay below {SHORTCUT_LIMIT:g}, the others should be near the target's."
        ),
        table(
            ["set", "TF-IDF alone", "length ratio alone", "same category alone", "negatives of one category"],
            [(name, *_shortcuts(entry), entry.same_category_negatives) for name, entry in entries.items()],
            formats={"negatives of one category": ".0%"},
        ),
    ]


def _difficulty(name: str, entry: MinedSet) -> tuple[Value, ...]:
    of = entry.baseline
    figures = (of.spearman, of.auc, of.separability, of.overlap) if of else (None,) * 4
    return (name, entry.pairs, entry.positives, entry.texts, *figures)


def _shortcuts(entry: MinedSet) -> tuple[Value, ...]:
    return entry.alone.tfidf, entry.alone.length_ratio, entry.alone.same_category


def _distributions(views: Mapping[str, View]) -> list[Block]:
    blocks = [
        heading("Distributions"),
        paragraph(
            "If the two classes have the same distribution of TF-IDF cosines, word overlap does not reveal the label. "
            "If the mined panel equals the target panel, the mined pairs are similar to the target's."
        ),
        histogram_row(
            {f"TF-IDF cosine, {name}": _by_class(view, view.tfidf_P) for name, view in views.items()},
            x_label="TF-IDF cosine",
            bins=25,
        ),
    ]
    scores = {name: (view, view.baseline_P) for name, view in views.items() if view.baseline_P is not None}
    if len(scores) == len(views):
        panels = {f"baseline's score, {name}": _by_class(view, score_P) for name, (view, score_P) in scores.items()}
        blocks.append(histogram_row(panels, x_label="baseline's score", bins=40))
    return blocks


def _by_class(view: View, value_P: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    return {name: value_P[view.is_positive_P == label] for name, label in _CLASSES}


def _match(report: MiningReport) -> list[Block]:
    match = report.match
    if match is None:
        return []
    return [
        heading("Can mined pairs be told from the target's?"),
        paragraph(
            "AUC of a gradient-boosted classifier that tries to tell mined pairs from the target's; 0.5 means that it "
            "cannot. Its training and test folds share no text. It uses the features that mining matches, and then "
            "further ones as well (token counts, common character n-grams, differences of embeddings). Distance: the "
            "share of pairs that would have to move to another cell of the table below to match the target."
        ),
        table(
            ["class of pairs", "AUC, matched features", "AUC, all features", "distance"],
            [(name, auc.matched, auc.all, match.distance[name]) for name, auc in match.adversarial.items()],
            formats={"distance": ".1%"},
        ),
        details(
            "Joint distribution of the features: share of the pairs in each cell",
            [_joint(match.joint, list(match.adversarial))],
        ),
    ]


def _joint(cells: Sequence[JointCell], classes: Sequence[str]) -> Block:
    has_baseline = cells[0].baseline is not None
    shares = [f"{name}, {side}" for name in classes for side in ("target", "mined")]
    return table(
        ["TF-IDF cosine", "length ratio", *(["baseline's score"] if has_baseline else []), "category", *shares],
        [
            (
                _interval(cell.tfidf),
                _interval(cell.length_ratio),
                *([_interval(cell.baseline)] if cell.baseline else []),
                "same" if cell.same_category else "different",
                *(value for name in classes for value in (cell.share(name).target, cell.share(name).mined)),
            )
            for cell in cells
        ],
        formats=dict.fromkeys(shares, ".1%"),
    )


def _interval(ends: tuple[float | None, float | None]) -> str:
    low, high = ends
    if low is None:
        return "all" if high is None else f"below {high:g}"
    return f"{low:g} and more" if high is None else f"{low:g} to {high:g}"


def _label_noise(report: MiningReport, *, keeps_false_negatives: bool) -> list[Block]:
    mined, counts = report.training.baseline, report.suspects
    if mined is None:
        return []
    titles = "positives that score below the median negative", "negatives that score above the median positive"
    columns = _crossed(mined), _crossed(report.target.baseline if report.target else None)
    blocks = [
        heading("How noisy the labels look"),
        paragraph(
            "Shares of each class that the baseline scores on the wrong side. Hard pairs do that; if far more of them "
            "do than in the target, check the labels."
        ),
        table(
            ["share of a class", "mined", "target"],
            list(zip(titles, *columns, strict=True)),
            formats={"mined": ".1%", "target": ".1%"},
        ),
    ]
    if counts and counts.of:
        blocks.append(
            paragraph(
                f"{counts.found:,} of {counts.of:,} negative candidates score more than {MARGIN:g} above the best "
                "positive of one of their texts, and may well be positives: "
                + ("they were kept." if keeps_false_negatives else "they were left out.")
            )
        )
    return blocks


def _crossed(figures: BaselineFigures | None) -> tuple[Value, Value]:
    return (figures.positives_below_negatives, figures.negatives_above_positives) if figures else (None, None)


def _examples(pairs: View) -> list[Block]:
    measure_P = pairs.tfidf_P if pairs.baseline_P is None else pairs.baseline_P
    by = "TF-IDF cosine" if pairs.baseline_P is None else "baseline's score"
    order = np.argsort(measure_P, kind="stable")
    return [
        heading("The hardest pairs"),
        examples(f"Positive pairs with the lowest {by}", _rows(pairs, order[pairs.is_positive_P[order]])),
        examples(f"Negative pairs with the highest {by}", _rows(pairs, order[~pairs.is_positive_P[order]][::-1])),
    ]


def _rows(pairs: View, index_P: NDArray[np.int64]) -> list[tuple[str, str, dict[str, Value]]]:
    rows = []
    for i in index_P[:_EXAMPLES].tolist():
        pair = pairs.pairs[i]
        figures: dict[str, Value] = {"TF-IDF": pair.tfidf}
        if pairs.baseline_P is not None:
            figures["baseline"] = float(pairs.baseline_P[i])
        if pair.group_a is not None:
            figures["groups"] = " / ".join(dict.fromkeys((str(pair.group_a), str(pair.group_b))))
        rows.append((pair.text_a, pair.text_b, figures))
    return rows


def _origin(report: MiningReport) -> Block:
    left_out = [("not in the sample", report.not_sampled), *report.dropped.items()]
    return details(
        "Documents left out, split of the documents, settings",
        [
            table(["reason for leaving out", "documents"], [(reason, num) for reason, num in left_out if num]),
            table(
                ["set", "documents", "groups"],
                [(name, size.documents, size.groups) for name, size in report.split.items()],
            ),
            table(["setting", "value"], [(name, str(value)) for name, value in report.config.items()]),
        ],
    )
