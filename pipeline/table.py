"""Tables for the terminal."""

from collections.abc import Sequence
from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from simile.artifacts import Calibration, EvaluationReport, MinedSet, MiningReport, SetEvaluation

_MAX_WIDTH = 1000


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a plain-text table: the first column is left-aligned, the others right-aligned, nothing is wrapped."""
    # Text, because rich would read brackets in a plain string as markup.
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(Text(name), justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(file=StringIO(), color_system=None, width=_MAX_WIDTH)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def result_table(report: EvaluationReport) -> str:
    """Return the figures of an evaluation: baseline, Simile, and their difference with its 95 % interval."""
    entries = report.sets
    if report.baseline is None:
        columns = ["Spearman", "pairs", "Simile", "AUC", "separability", "overlap", "TF-IDF alone"]
        rows = [_row(name, entry) for name, entry in entries.items()]
    else:
        columns = ["Spearman", "pairs", "baseline", "Simile", "difference", "95 % interval", "TF-IDF alone"]
        entries = entries | {f"{name} (guard)": entry for name, entry in report.guards.items()}
        rows = [_compared(name, entry) for name, entry in entries.items()]
    errors = [entry.bundle.calibration_error for entry in entries.values()]
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


def _row(name: str, entry: SetEvaluation) -> list[str]:
    figures = entry.bundle
    shown = ["" if entry.graded else figure(value) for value in (figures.auc, figures.separability, figures.overlap)]
    return [name, f"{entry.pairs:,}", figure(figures.spearman), *shown, figure(entry.lexical.spearman)]


def _compared(name: str, entry: SetEvaluation) -> list[str]:
    baseline, gain = entry.baseline, entry.difference
    if baseline is None or gain is None:
        raise ValueError(f"{name}: got a set without a baseline in a report that has one")
    return [
        name,
        f"{entry.pairs:,}",
        figure(baseline.spearman),
        figure(entry.bundle.spearman),
        figure(gain.spearman, "+.4f"),
        f"[{figure(gain.low, '+.4f')}, {figure(gain.high, '+.4f')}]",
        figure(entry.lexical.spearman),
    ]


def calibration_told(calibration: Calibration | None) -> str:
    """Return one line about the calibration: its method, its prior, and its cross-fitted error."""
    if calibration is None:
        return "none"
    error = "" if calibration.error is None else f", expected calibration error {calibration.error:.4f}"
    return f"{calibration.method}, fitted on pairs of which {calibration.positive_share:.0%} are positive{error}"


def figure(value: float | None, form: str = ".4f") -> str:
    """Return the figure formatted, or a dash where there is none."""
    return "-" if value is None else format(value, form)
