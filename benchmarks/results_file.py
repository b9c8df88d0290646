"""Sections of docs/results.md: tables, and the commit and machine that they were measured with."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from simile.files import write_whole


def commit() -> str:
    """Return the current commit, and whether the code (without docs and results) has local changes."""
    head = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", ".", ":!docs", ":!benchmarks/results")
    return f"{head} with changes" if changed else head


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    return done.stdout.strip() or ("no git" if done.returncode else "")


def machine() -> str:
    """Return the processor's name and the number of usable cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {cores} core{'' if cores == 1 else 's'}"


def result_file(results: Path, name: str) -> Path:
    """Return the file in the folder with the result of the row of this name."""
    return results / f"{name.replace(' ', '-').replace(',', '')}.json"


def write_result(file: Path, figures: Mapping[str, Any]) -> None:
    """Write the figures of one row atomically, with the commit and the machine that they were measured with."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps({"commit": commit(), "machine": machine(), **figures}, indent=2) + "\n")


def origin(results: Iterable[Mapping[str, Any]]) -> str:
    """Return the line that names the commits and machines of the results."""
    rows = list(results)
    commits, machines = (sorted({row[key] for row in rows}) for key in ("commit", "machine"))
    return f"Commit {', '.join(commits)}, on {' and '.join(machines)}:" if rows else "Not measured yet:"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def replace_section(path: Path, name: str, text: str) -> None:
    """Replace the text between the markers of this name in the file, or append it with markers."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = path.read_text() if path.is_file() else "# Results\n"
    section = f"{first}\n\n{text.strip()}\n\n{last}"
    before, has_section, rest = old.partition(first)
    if has_section:
        _, closed, after = rest.partition(last)
        if not closed:
            sys.exit(f"{path}: got {first} without {last}, need both markers")
        write_whole(path, before + section + after)
    else:
        write_whole(path, f"{old.rstrip()}\n\n{section}\n")


def evaluations_table(rows: Mapping[str, Mapping[str, Any]], baseline: str = "(baseline)") -> str:
    """Return the table of bundles, by name: minutes of training where known, and the figures on each set."""
    first = next(iter(rows.values()))["evaluation"]
    names = [*first["sets"], *first["guards"]]
    lines = [[baseline, "", *(f"{entry_of(first, name)['baseline']['spearman']:.4f}" for name in names)]]
    for row, result in rows.items():
        cells = [_cell(entry_of(result["evaluation"], name)) for name in names]
        lines.append([row, f"{result['minutes']:.1f}" if "minutes" in result else "", *cells])
    return table(["bundle", "minutes", *names], lines)


def entry_of(evaluation: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the entry of a set or a guard in an evaluation."""
    entry: Mapping[str, Any] = {**evaluation["sets"], **evaluation["guards"]}[name]
    return entry


def _cell(entry: Mapping[str, Any]) -> str:
    figures, difference = entry["bundle"], entry["difference"]
    auc = f", AUC {figures['auc']:.3f}" if "auc" in figures else ""
    return f"**{figures['spearman']:.4f}** [{difference['low']:+.3f}, {difference['high']:+.3f}]{auc}"
