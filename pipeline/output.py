"""What commands print, and where they may write."""

import os
import sys
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path

from simile.artifacts import Calibration, EvaluationReport, MinedSet, MiningReport, SetEvaluation
from simile.artifacts.reading import STDIN
from simile.errors import InputError
from simile.progress import visible

GATE_FAILED = 3
"""Exit code of a command whose gate did not pass."""


def print_lines(*lines: str) -> None:
    """Print the lines to stdout, with control characters as visible escapes."""
    sys.stdout.write("".join(f"{visible(line)}\n" for line in lines))


def require_apart(outputs: Iterable[Path | None], inputs: Iterable[Path | None]) -> None:
    """Refuse to write what is read: an output that is an input, lies in one, or contains one."""
    read = [Path("/dev/stdin") if str(path) == "-" else path for path in inputs if path]
    files = [file for path in read if os.path.isdir(path) for file in path.iterdir() if file.is_file()]
    written: dict[str, Path] = {}
    for out in filter(None, outputs):
        if (other := written.setdefault(os.path.realpath(out), out)) is not out:
            raise InputError(f"{out}: is written twice ({other}), need a place for each")
        for path in [*read, *files]:
            is_same = os.path.exists(out) and os.path.exists(path) and out.samefile(path)
            # Path.resolve raises a RuntimeError for links that lead in a circle.
            real_out, real_path = (Path(os.path.realpath(one)) for one in (out, path))
            if is_same or real_path == real_out or real_path in real_out.parents or real_out in real_path.parents:
                raise InputError(f"{out}: is read as input ({path}), need another place to write to")


def require_file(path: Path | None) -> None:
    """Refuse a stream where the command reads the table more than once."""
    if path and (str(path) in STDIN or path.is_fifo()):
        raise InputError(f"{path}: got a stream, need a file: this command reads it more than once")


def verdict(report: EvaluationReport) -> str:
    """Return the gate's verdict with its reasons."""
    return f"{report.verdict} ({'; '.join(report.reasons)})"


def calibration_told(calibration: Calibration | None) -> str:
    """Return one line about the calibration: its method, its prior, and its cross-fitted error."""
    if calibration is None:
        return "none"
    error = "" if calibration.error is None else f", expected calibration error {calibration.error:.4f}"
    return f"{calibration.method}, fitted on pairs of which {calibration.positive_share:.0%} are positive{error}"


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: the first column is left-aligned, the others right-aligned, nothing is wrapped."""
    # Imported here, because most commands print no table.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Text, because rich would read brackets in a plain string as markup.
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(Text(name), justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    console = Console(file=StringIO(), color_system=None, width=1000)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def result_table(report: EvaluationReport) -> list[str]:
    """Return the figures of an evaluation: baseline, what was judged, their difference with its 95 % interval."""
    entries, judged = report.sets, report.judged_column
    if report.baseline is None:
        columns = ["Spearman", "pairs", judged, "AUC", "separability", "overlap", "TF-IDF alone"]
        rows = [_row(name, entry) for name, entry in entries.items()]
    else:
        columns = ["Spearman", "pairs", "baseline", judged, "difference", "95 % interval", "TF-IDF alone"]
        entries = entries | {f"{name} (guard)": entry for name, entry in report.guards.items()}
        rows = [_compared(name, entry) for name, entry in entries.items()]
    errors = [entry.bundle.calibration_error for entry in entries.values()]
    if any(error is not None for error in errors):
        columns.append("ECE")
        rows = [[*row, _figure(error)] for row, error in zip(rows, errors, strict=True)]
    return text_table(columns, rows)


def mined_table(report: MiningReport) -> list[str]:
    """Return a mining report's figures: how hard each set is, its shortcuts, and how similar it is to the target."""
    columns = ("set", "pairs", "positive", "baseline Spearman", "separability", "TF-IDF alone", "length", "category")
    lines = text_table(columns, [_mined(name, entry) for name, entry in report.shown_sets.items()])
    if report.match:
        aucs = [
            f"{name} {_figure(auc.matched, '.3f')} (all features {_figure(auc.all, '.3f')})"
            for name, auc in report.match.adversarial.items()
        ]
        lines += ["", f"AUC of mined against target pairs (0.5: indistinguishable): {', '.join(aucs)}"]
    return lines


def _mined(name: str, entry: MinedSet) -> list[str]:
    hardness = (entry.baseline.spearman, entry.baseline.separability) if entry.baseline else (None, None)
    shortcuts = (entry.alone.tfidf, entry.alone.length_ratio, entry.alone.same_category)
    shown = [*map(_figure, hardness), *(_figure(alone, ".3f") for alone in shortcuts)]
    return [name, f"{entry.pairs:,}", f"{entry.positives / entry.pairs:.0%}", *shown]


def _row(name: str, entry: SetEvaluation) -> list[str]:
    figures = entry.bundle
    shown = ["" if entry.graded else _figure(value) for value in (figures.auc, figures.separability, figures.overlap)]
    return [name, f"{entry.pairs:,}", _figure(figures.spearman), *shown, _figure(entry.lexical.spearman)]


def _compared(name: str, entry: SetEvaluation) -> list[str]:
    baseline, gain = entry.baseline, entry.difference
    if baseline is None or gain is None:
        raise ValueError(f"{name}: got a set without a baseline in a report that has one")
    interval = f"[{_figure(gain.low, '+.4f')}, {_figure(gain.high, '+.4f')}]"
    shown = [_figure(baseline.spearman), _figure(entry.bundle.spearman), _figure(gain.spearman, "+.4f"), interval]
    return [name, f"{entry.pairs:,}", *shown, _figure(entry.lexical.spearman)]


def _figure(value: float | None, form: str = ".4f") -> str:
    """Return the figure formatted, or a dash where there is none."""
    return "-" if value is None else format(value, form)
