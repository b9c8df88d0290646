"""The mining report as an HTML page."""

from collections.abc import Mapping, Sequence

import numpy as np

from mining.matching.target import SHORTCUT_LIMIT
from mining.mine import Mined
from mining.report.comparison import View, view_of, view_of_target
from mining.report.figures import tiers_of
from mining.sampling.features import Floats, Indices
from mining.sampling.label_noise import MARGIN
from simile import reports
from simile.artifacts import JointCell, MatchReport, MinedSet, MiningReport
from simile.reports import Block, Value

_NUM_EXAMPLES = 8
_BASELINE_FIGURES = ("Spearman", "AUC", "separability", "overlap")


def to_page(report: MiningReport, mined: Mined) -> str:
    """Return the report as a self-contained HTML page."""
    # The charts and examples show the hardest tier: the pairs of the others are not meant to be as hard.
    pairs = next(iter(tiers_of(mined).values()), None) or view_of(mined.sets["pairs"], mined.vectors)
    views = {"mined": pairs} | ({"target": view_of_target(mined.target)} if mined.target else {})
    blocks = [
        _summary(report),
        *(reports.callout("note", text) for text in report.warnings),
        *_sets(report.shown_sets),
        *_distributions(views),
        *(_match(report.match) if report.match else []),
        *_label_noise(report, keeps_false_negatives=mined.config.false_negatives == "report"),
        *_examples(pairs),
        _origin(report),
    ]
    subtitle = (
        f"{report.training.pairs:,} training pairs from {report.documents:,} documents in {report.groups:,} groups"
    )
    return reports.page("Mined pairs", subtitle, blocks)


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
    return reports.facts(figures)


def _sets(entries: Mapping[str, MinedSet]) -> list[Block]:
    difficulty: list[tuple[Value, ...]] = []
    shortcuts: list[tuple[Value, ...]] = []
    for name, of in entries.items():
        figures = (getattr(of.baseline, figure.lower(), None) for figure in _BASELINE_FIGURES)
        difficulty.append((name, of.pairs, of.positives, of.texts, *figures))
        shortcuts.append((name, *dict(of.alone).values(), of.same_category_negatives))
    return [
        reports.heading("How hard the pairs are"),
        reports.paragraph(
            "The training pairs (pairs) and their tiers, the held-out sets, and the target. Pairs of the tier target "
            "follow the target, in the tier matched the classes are alike in words and length, and the tier group has "
            "any other pairs of the groups. The baseline is the encoder before training: if it scores training pairs "
            "as poorly as the target's, they are as hard."
        ),
        reports.table(
            ["set", "pairs", "positives", "distinct texts", *(f"baseline's {name}" for name in _BASELINE_FIGURES)],
            difficulty,
        ),
        reports.heading("Shortcuts"),
        reports.paragraph(
            "Spearman that one cheap feature reaches. A model learns such a shortcut instead of the texts' meaning. "
            f"On the training pairs of the tiers target and matched, TF-IDF alone should be within {SHORTCUT_LIMIT:g} "
            "of 0, and the others near the target's. TF-IDF alone is weighted by the texts of each set, so that a "
            "held-out set of few groups, whose words are common there, may be further off."
        ),
        reports.table(
            ["set", "TF-IDF alone", "length ratio alone", "same category alone", "negatives of one category"],
            shortcuts,
            formats={"negatives of one category": ".0%"},
        ),
    ]


def _distributions(views: Mapping[str, View]) -> list[Block]:
    features = {"TF-IDF cosine": ("tfidf_C", 25)}
    if all(view.has_baseline for view in views.values()):
        features["baseline's score"] = ("baseline_C", 40)
    return [
        reports.heading("Distributions"),
        reports.paragraph(
            "If the two classes have the same distribution of TF-IDF cosines, word overlap does not reveal the label. "
            "If the mined panel equals the target panel, the mined pairs are similar to the target's."
        ),
        *(
            reports.histogram_row(
                {f"{label}, {name}": _by_class(view, column) for name, view in views.items()}, x_label=label, bins=bins
            )
            for label, (column, bins) in features.items()
        ),
    ]


def _by_class(view: View, column: str) -> dict[str, Floats]:
    classes = {"positive": view.is_positive_C, "negative": ~view.is_positive_C}
    return {name: getattr(view, column)[is_of_class_C] for name, is_of_class_C in classes.items()}


def _match(match: MatchReport) -> list[Block]:
    return [
        reports.heading("Can mined pairs be told from the target's?"),
        reports.paragraph(
            "AUC of a gradient-boosted classifier that tries to tell mined pairs from the target's; 0.5 means that it "
            "cannot. Its training and test folds share no text. It uses the features that mining matches, and then "
            "further ones as well (token counts, common character n-grams, differences of embeddings). Distance: the "
            "share of pairs that would have to move to another cell of the table below to match the target."
        ),
        reports.table(
            ["class of pairs", "AUC, matched features", "AUC, all features", "distance"],
            [(name, auc.matched, auc.all, match.distance[name]) for name, auc in match.adversarial.items()],
            formats={"distance": ".1%"},
        ),
        reports.details(
            "Joint distribution of the features: share of the pairs in each cell",
            [_joint(match.joint, list(match.adversarial))],
        ),
    ]


def _joint(cells: Sequence[JointCell], classes: Sequence[str]) -> Block:
    has_baseline = cells[0].baseline is not None
    shares = [f"{name}, {side}" for name in classes for side in ("target", "mined")]
    return reports.table(
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
    if report.training.baseline is None:
        return []
    baselines = report.training.baseline, report.target.baseline if report.target else None
    crossed = {
        "positives that score below the median negative": "positives_below_negatives",
        "negatives that score above the median positive": "negatives_above_positives",
    }
    blocks = [
        reports.heading("How noisy the labels look"),
        reports.paragraph(
            "Shares of each class that the baseline scores on the wrong side. Hard pairs do that; if far more of them "
            "do than in the target, check the labels."
        ),
        reports.table(
            ["share of a class", "mined", "target"],
            [(title, *(getattr(of, name, None) for of in baselines)) for title, name in crossed.items()],
            formats={"mined": ".1%", "target": ".1%"},
        ),
    ]
    if (counts := report.suspects) and counts.of:
        fate = "they were kept" if keeps_false_negatives else "they were left out"
        text = (
            f"{counts.found:,} of {counts.of:,} negative candidates score more than {MARGIN:g} above the best positive "
            f"of one of their texts, and may well be positives: {fate}."
        )
        blocks.append(reports.paragraph(text))
    return blocks


def _examples(pairs: View) -> list[Block]:
    by, value_C = ("baseline's score", pairs.baseline_C) if pairs.has_baseline else ("TF-IDF cosine", pairs.tfidf_C)
    order = np.argsort(value_C, kind="stable")
    positive, negative = order[pairs.is_positive_C[order]], order[~pairs.is_positive_C[order]][::-1]
    return [
        reports.heading("The hardest pairs"),
        reports.examples(f"Positive pairs with the lowest {by}", _rows(pairs, positive)),
        reports.examples(f"Negative pairs with the highest {by}", _rows(pairs, negative)),
    ]


def _rows(view: View, index: Indices) -> list[tuple[str, str, dict[str, Value]]]:
    rows = []
    for pair, baseline in zip(view.pairs[index][:_NUM_EXAMPLES], view.baseline_C[index].tolist(), strict=False):
        figures: dict[str, Value] = {"TF-IDF": pair.tfidf}
        if view.has_baseline:
            figures["baseline"] = baseline
        if pair.group_a is not None:
            figures["groups"] = " / ".join(dict.fromkeys((str(pair.group_a), str(pair.group_b))))
        rows.append((pair.text_a, pair.text_b, figures))
    return rows


def _origin(report: MiningReport) -> Block:
    left_out = [("not in the sample", report.not_sampled), *report.dropped.items()]
    return reports.details(
        "Documents left out, split of the documents, settings",
        [
            reports.table(["reason for leaving out", "documents"], [(reason, num) for reason, num in left_out if num]),
            reports.table(
                ["set", "documents", "groups"],
                [(name, size.documents, size.groups) for name, size in report.split.items()],
            ),
            reports.table(["setting", "value"], [(name, str(value)) for name, value in report.config.items()]),
        ],
    )
