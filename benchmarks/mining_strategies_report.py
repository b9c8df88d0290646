"""Writes the results of `mining_strategies.py` as a section of docs/results.md."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from harness import GUARD, TESTS
from results_file import machine, replace_section, table

SAMPLE_SIZE = 2000
"""Pairs drawn at random from each mined file to measure its difficulty."""
ABOUT = """\
Each row is the preset `minilm`, trained for one epoch without a dev set on pairs that the strategy mined from the same
documents; the texts of all dev and test pairs were kept out. Each cell shows the Spearman correlation of the trained
bundle, its difference from the baseline, and the 95 % interval of the difference (resampled by groups, on stsb by
texts). With several seeds for mining and training, all figures are means over the seeds, followed by the lowest and the
highest Spearman correlation."""
ABOUT_MINED = f"""\
The difficulty of the training pairs: Spearman correlation, separability and overlap of the untouched encoder, and the
Spearman correlation of TF-IDF alone, on {SAMPLE_SIZE:,} random pairs of each file (all pairs of smaller files). The
seconds are those of the whole mining process; `simile mine` also scores pairs with the baseline, and
sentence-transformers embeds the documents."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The results of one strategy, corpus and seed; None for a part without results."""

    corpus: str
    label: str
    mined_label: str
    """Label of the mined pairs, shared by strategies that train on the same ones."""
    seed: int
    mining: Mapping[str, Any] | None
    result: Mapping[str, Any] | None


def write_section(path: Path, command: Sequence[str], measured: Sequence[Measured]) -> None:
    """Write the section ``mining-strategies`` of the results."""
    commits = {part["commit"] for one in measured for part in (one.mining, one.result) if part}
    parts = [
        f"Commit {', '.join(sorted(commits)) or 'none yet'}, on {machine()}:",
        f"```\npython benchmarks/mining_strategies.py {shlex.join(command)}\n```",
        ABOUT,
        ABOUT_MINED,
    ]
    for corpus in dict.fromkeys(one.corpus for one in measured):
        parts += _of_corpus(corpus, [one for one in measured if one.corpus == corpus])
    replace_section(path, "mining-strategies", "\n\n".join(parts))


def _of_corpus(corpus: str, measured: Sequence[Measured]) -> list[str]:
    done: dict[str, list[Mapping[str, Any]]] = {}
    mined: dict[str, dict[int, Mapping[str, Any]]] = {}
    for one in measured:
        if one.result:
            done.setdefault(one.label, []).append(one.result["evaluation"])
        if one.mining:
            mined.setdefault(one.mined_label, {})[one.seed] = one.mining
    rows = [_baseline_row(evaluations) for evaluations in done.values()][:1]
    rows += [[label, str(len(evaluations)), *_cells(evaluations)] for label, evaluations in done.items()]
    by_label = {label: list(of_seed.values()) for label, of_seed in mined.items()}
    return [
        f"### Mining strategies on {corpus}",
        table(["trained on", "seeds", *TESTS, GUARD], rows),
        table(
            ["mined", "pairs", "Spearman", "separability", "overlap", "TF-IDF alone", "seconds"],
            [row for label, reports in by_label.items() for row in _mined_rows(label, reports)],
        ),
        *(_negatives(reports) for reports in by_label.values() if "negatives" in reports[0]),
    ]


def _sets(evaluation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*(evaluation["sets"][name] for name in TESTS), evaluation["guards"][GUARD]]


def _baseline_row(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    return ["(baseline)", "", *(f"{entry['baseline']['spearman']:.4f}" for entry in _sets(evaluations[0]))]


def _cells(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a cell per set, from one evaluation per seed."""
    return [_cell(entries) for entries in zip(*map(_sets, evaluations), strict=True)]


def _cell(entries: Sequence[Mapping[str, Any]]) -> str:
    figures = [entry["bundle"]["spearman"] for entry in entries]
    middle, low, high = (mean(entry["difference"][key] for entry in entries) for key in ("spearman", "low", "high"))
    spread = f"; {min(figures):.4f} to {max(figures):.4f}" if len(figures) > 1 else ""
    return f"**{mean(figures):.4f}** {middle:+.4f} [{low:+.4f}, {high:+.4f}]{spread}"


def _mined_rows(label: str, reports: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a row per mined file, from one report per seed; the seconds cover all files."""
    seconds = f"{mean(one['seconds'] for one in reports):.0f}"
    rows = []
    for name in reports[0]["files"]:
        files = [one["files"][name] for one in reports]
        columns = [[file["baseline"][key] for file in files] for key in ("spearman", "separability", "overlap")]
        columns.append([file["tfidf"] for file in files])
        # A figure is null where it is not defined (all scores are equal).
        figures = ["-" if None in column else f"{mean(column):.4f}" for column in columns]
        pairs = f"{mean(file['pairs'] for file in files):,.0f}"
        rows.append([label if name == "pairs" else f"{label}, {name}", pairs, *figures, seconds])
    return rows


def _negatives(reports: Sequence[Mapping[str, Any]]) -> str:
    """Return how many of the negatives that sentence-transformers mined belong to the anchor's own group."""
    anchors, with_negatives, first, negatives, own = (
        sum(one["negatives"][key] for one in reports)
        for key in (
            "anchors",
            "anchors_with_negatives",
            "first_negatives_of_own_group",
            "negatives",
            "negatives_of_own_group",
        )
    )
    settings = reports[0]["negatives"]["settings"]
    return (
        f"sentence-transformers: `mine_hard_negatives` with `{settings}`. {with_negatives:,} of {anchors:,} anchors "
        f"(all seeds) got negatives. The first negative belonged to the anchor's own group for "
        f"{first / with_negatives:.0%} of them, as did {own / negatives:.0%} of all negatives. These were dropped, and "
        "each anchor kept its first negative of another group."
    )
