"""The mining report as a page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mining.matching.target import SHORTCUT_LIMIT
from mining.mine import Mined
from mining.report.comparison import View, view_of, view_of_target
from mining.sampling.label_noise import MARGIN
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


def to_page(report: Mapping[str, Any], mined: Mined) -> str:
    """Return the report as a self-contained HTML page."""
    pairs = view_of(mined.sets["pairs"], mined.vectors)
    shown = {"mined": pairs}
    if mined.target:
        shown["target"] = view_of_target(mined.target)
    blocks = [
        _summary(report),
        *(callout("note", text) for text in report["warnings"]),
        *_sets(report),
        *_distributions(shown),
        *_match(report),
        *_noise(report),
        *_examples(pairs),
        *_origin(report),
    ]
    num_pairs = report["sets"]["pairs"]["pairs"]
    subtitle = f"{num_pairs:,} training pairs from {report['documents']:,} documents in {report['groups']:,} groups"
    return page("Mined pairs", subtitle, blocks)


def _summary(report: Mapping[str, Any]) -> Block:
    pairs, target = report["sets"]["pairs"], report["target"]
    figures: dict[str, Value] = {"training pairs": pairs["pairs"], "TF-IDF alone": pairs["alone"]["tfidf"]}
    if pairs["baseline"]:
        figures["baseline Spearman"] = pairs["baseline"]["spearman"]
    if target and target["baseline"]:
        figures["on the target"] = target["baseline"]["spearman"]
    if report["match"]:
        aucs = [found["matched"] for found in report["match"]["adversarial"].values() if found["matched"] is not None]
        figures["adversarial AUC"] = max(aucs, default=None)
    return facts(figures)


def _sets(report: Mapping[str, Any]) -> list[Block]:
    entries = dict(report["sets"]) | ({"target": report["target"]} if report["target"] else {})
    return [
        heading("How hard the pairs are"),
        paragraph(
            "Training pairs (pairs), the sets held out from them, and the target they were to be like. The baseline is "
            "the untouched encoder: where it does as badly on the training pairs as on the target, they are as hard."
        ),
        table(
            ["set", "pairs", "positive", "texts", "baseline Spearman", "AUC", "separability", "overlap"],
            [_hardness(name, entry) for name, entry in entries.items()],
        ),
        heading("Shortcuts"),
        paragraph(
            "Spearman that one cheap feature reaches alone. What orders the pairs without reading them is learned in "
            f"place of their meaning: TF-IDF alone is to stay below {SHORTCUT_LIMIT:g}, the others near the target's."
        ),
        table(
            ["set", "TF-IDF alone", "length ratio alone", "same category alone", "negatives of one category"],
            [
                (
                    name,
                    entry["alone"]["tfidf"],
                    entry["alone"]["length_ratio"],
                    entry["alone"]["same_category"],
                    entry["same_category_negatives"],
                )
                for name, entry in entries.items()
            ],
            formats={"negatives of one category": ".0%"},
        ),
    ]


def _hardness(name: str, entry: Mapping[str, Any]) -> tuple[Value, ...]:
    baseline = entry["baseline"] or {}
    figures = (baseline.get(figure) for figure in ("spearman", "auc", "separability", "overlap"))
    return (name, entry["pairs"], entry["positives"], entry["texts"], *figures)


def _distributions(shown: Mapping[str, View]) -> list[Block]:
    blocks = [
        heading("Distributions"),
        paragraph(
            "Where the two classes agree in TF-IDF, word overlap does not give the label away. Where the panels "
            "agree, the mined pairs are like the target's."
        ),
        histogram_row(
            {f"TF-IDF cosine, {name}": _by_class(view, view.tfidf_P) for name, view in shown.items()},
            x_label="TF-IDF cosine",
            bins=25,
        ),
    ]
    if all(view.baseline_P is not None for view in shown.values()):
        blocks.append(
            histogram_row(
                {
                    f"baseline's score, {name}": _by_class(view, np.asarray(view.baseline_P))
                    for name, view in shown.items()
                },
                x_label="baseline's score",
                bins=40,
            )
        )
    return blocks


def _by_class(view: View, values: Any) -> dict[str, Any]:
    return {name: values[view.is_positive_P == label] for name, label in _CLASSES}


def _match(report: Mapping[str, Any]) -> list[Block]:
    match = report["match"]
    if match is None:
        return []
    names = list(match["adversarial"])
    return [
        heading("Can mined pairs be told from the target's?"),
        paragraph(
            "AUC of a gradient-boosted classifier, cross-validated with folds that share no text; 0.5: it cannot. Once "
            "on the features that mining follows, once with others besides (token counts, common character n-grams, "
            "differences of embeddings). Distance: the share of pairs that lie in another cell of the table below."
        ),
        table(
            ["pairs", "AUC, matched features", "AUC, all features", "distance"],
            [
                (
                    name,
                    match["adversarial"][name]["matched"],
                    match["adversarial"][name]["all"],
                    match["distance"][name],
                )
                for name in names
            ],
            formats={"distance": ".1%"},
        ),
        details("The joint table: share of the pairs in each cell", [_joint(match["joint"], names)]),
    ]


def _joint(cells: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Block:
    features = [name for name in ("tfidf", "length_ratio", "baseline") if name in cells[0]]
    titles = {"tfidf": "TF-IDF", "length_ratio": "length ratio", "baseline": "baseline"}
    shares = [f"{name}, {of}" for name in names for of in ("target", "mined")]
    return table(
        [*(titles[name] for name in features), "category", *shares],
        [
            (
                *(_stretch(cell[name]) for name in features),
                "same" if cell["same_category"] else "other",
                *(cell[name][of] for name in names for of in ("target", "mined")),
            )
            for cell in cells
        ],
        formats=dict.fromkeys(shares, ".1%"),
    )


def _stretch(ends: Sequence[float | None]) -> str:
    low, high = ends
    if low is None:
        return "all" if high is None else f"below {high:g}"
    return f"{low:g} and more" if high is None else f"{low:g} to {high:g}"


def _noise(report: Mapping[str, Any]) -> list[Block]:
    pairs, target, suspects = report["sets"]["pairs"]["baseline"], report["target"], report["suspects"]
    if pairs is None:
        return []
    rows: list[tuple[str, Value, Value]] = [
        (title, pairs[name], (target["baseline"] or {}).get(name) if target else None)
        for title, name in (
            ("positives below half of the negatives", "positives_below_negatives"),
            ("negatives above half of the positives", "negatives_above_positives"),
        )
    ]
    blocks = [
        heading("How noisy the labels look"),
        paragraph(
            "By the baseline's score. Hard pairs cross; where many more do than in the target, look at the labels."
        ),
        table(["share of a class", "mined", "target"], rows, formats={"mined": ".1%", "target": ".1%"}),
    ]
    if suspects and suspects["of"]:
        kept = report["config"].get("false_negatives") == "report"
        blocks.append(
            paragraph(
                f"{suspects['found']:,} of {suspects['of']:,} negative candidates score more than {MARGIN:g} above the "
                "best positive of one of their texts, and may well be positives: "
                + ("they were kept." if kept else "they were left out.")
            )
        )
    return blocks


def _examples(pairs: View) -> list[Block]:
    measure = pairs.tfidf_P if pairs.baseline_P is None else pairs.baseline_P
    by = "words in common" if pairs.baseline_P is None else "likeness by the baseline"
    order = np.argsort(measure, kind="stable")
    return [
        heading("The hardest pairs"),
        examples(f"Positive pairs with the least {by}", _rows(pairs, order[pairs.is_positive_P[order]])),
        examples(f"Negative pairs with the most {by}", _rows(pairs, order[~pairs.is_positive_P[order]][::-1])),
    ]


def _rows(pairs: View, index: Any) -> list[tuple[str, str, dict[str, Value]]]:
    found = []
    for i in index[:_EXAMPLES].tolist():
        pair = pairs.pairs[i]
        figures: dict[str, Value] = {"TF-IDF": pair.tfidf}
        if pairs.baseline_P is not None:
            figures["baseline"] = float(pairs.baseline_P[i])
        if pair.group_a is not None:
            figures["groups"] = " / ".join(dict.fromkeys((str(pair.group_a), str(pair.group_b))))
        found.append((pair.text_a, pair.text_b, figures))
    return found


def _origin(report: Mapping[str, Any]) -> list[Block]:
    left_out = [("not in the sample", report["not_sampled"]), *report["dropped"].items()]
    return [
        details(
            "What was left out, and how the documents were split",
            [
                table(["reason", "documents"], [(reason, num) for reason, num in left_out if num]),
                table(
                    ["set", "documents", "groups"],
                    [(name, entry["documents"], entry["groups"]) for name, entry in report["split"].items()],
                ),
                table(["setting", "value"], [(name, str(value)) for name, value in report["config"].items()]),
            ],
        )
    ]
