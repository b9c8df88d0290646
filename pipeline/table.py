"""Tables for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from simile.artifacts import Calibration, MinedSet, MiningReport


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the rows under their columns, the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (columns, *rows)
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:])])


def result_table(report: Mapping[str, Any]) -> str:
    """Return an evaluation's figures: baseline, Simile, and their difference with its 95 % interval."""
    entries = report["sets"]
    if report["baseline"] is None:
        columns = ["Spearman", "pairs", "Simile", "AUC", "separability", "overlap", "TF-IDF alone"]
        rows = [_row(name, entry) for name, entry in entries.items()]
    else:
        columns = ["Spearman", "pairs", "baseline", "Simile", "difference", "95 % interval", "TF-IDF alone"]
        entries = entries | {f"{name} (guard)": entry for name, entry in report["guards"].items()}
        rows = [_compared(name, entry) for name, entry in entries.items()]
    errors = [entry["bundle"].get("calibration_error") for entry in entries.values()]
    if any(error is not None for error in errors):
        columns.append("ECE")
        rows = [[*row, figure(error)] for row, error in zip(rows, errors, strict=True)]
    return text_table(columns, rows)


def mined_table(report: MiningReport) -> str:
    """Return a mining report's figures: how hard each set is, its shortcuts, and how similar it is to the target."""
    columns = ("set", "pairs", "positive", "baseline Spearman", "separability", "TF-IDF alone", "length", "category")
    lines = [text_table(columns, [_mined(name, entry) for name, entry in report.sets_and_target.items()])]
    if report.match:
        aucs = [
            f"{name} {figure(auc.matched, '.3f')} (all features {figure(auc.all, '.3f')})"
            for name, auc in report.match.adversarial.items()
        ]
        lines += ["", f"AUC of mined against target pairs (0.5: indistinguishable): {', '.join(aucs)}"]
    return "\n".join(lines)


def _mined(name: str, entry: MinedSet) -> list[str]:
    return [
        name,
        f"{entry.pairs:,}",
        f"{entry.positives / entry.pairs:.0%}",
        figure(entry.baseline.spearman if entry.baseline else None),
        figure(entry.baseline.separability if entry.baseline else None),
        *(figure(alone, ".3f") for alone in (entry.alone.tfidf, entry.alone.length_ratio, entry.alone.same_category)),
    ]


def _row(name: str, entry: Mapping[str, Any]) -> list[str]:
    found = entry["bundle"]
    figures = [figure(found[key]) if key in found else "" for key in ("spearman", "auc", "separability", "overlap")]
    return [name, f"{entry['pairs']:,}", *figures, figure(entry["lexical"]["spearman"])]


def _compared(name: str, entry: Mapping[str, Any]) -> list[str]:
    difference = entry["difference"]
    return [
        name,
        f"{entry['pairs']:,}",
        figure(entry["baseline"]["spearman"]),
        figure(entry["bundle"]["spearman"]),
        figure(difference["spearman"], "+.4f"),
        f"[{figure(difference['low'], '+.4f')}, {figure(difference['high'], '+.4f')}]",
        figure(entry["lexical"]["spearman"]),
    ]


def calibration_told(calibration: Calibration | None) -> str:
    """Return in a line what the calibration is, and how far off it was on pairs that it was not fitted on."""
    if calibration is None:
        return "none"
    error = "" if calibration.error is None else f", expected calibration error {calibration.error:.4f}"
    return f"{calibration.method}, of pairs of which {calibration.positive_share:.0%} are positive{error}"


def figure(value: float | None, form: str = ".4f") -> str:
    """Return the figure as it is shown; a dash where there is none."""
    return "-" if value is None else format(value, form)
