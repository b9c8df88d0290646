"""What `recipes.py` measured, as a section of docs/results.md."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from harness import GUARD, TESTS, machine, replace_section, table

MEASURED = 2000
"""Pairs of each mined file, drawn at random, by which its difficulty is measured."""
ABOUT = """\
Each row: the preset `minilm` trained for one epoch, without a dev set, on pairs mined by that recipe from the same
documents; the texts of all dev and test pairs were kept out. Each cell: Spearman of the trained bundle, its difference
from the baseline, and the difference's 95 % interval (groups are resampled; on stsb texts). With several seeds, of
mining and training alike, these are their means, the ends of the interval too; the least and the greatest Spearman
follow."""
ABOUT_MINED = f"""\
How hard the training pairs were: Spearman, separability and overlap of the untouched encoder and the Spearman of TF-IDF
alone, on {MEASURED:,} of each file drawn at random (all, where it has fewer). Seconds are of the whole mining process,
from documents to pairs: in them, `simile mine` also scores pairs with the baseline, and sentence-transformers
embeds the documents."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One recipe, corpus and seed; None where that part is not measured yet."""

    corpus: str
    label: str
    mined_label: str
    """What the pairs are called: recipes that train on the same ones share it."""
    seed: int
    mining: Mapping[str, Any] | None
    result: Mapping[str, Any] | None


def write_section(path: Path, command: Sequence[str], measured: Sequence[Measured]) -> None:
    """Write the section ``recipes`` of the results."""
    commits = {part["commit"] for one in measured for part in (one.mining, one.result) if part}
    parts = [
        f"Commit {', '.join(sorted(commits)) or 'none yet'}, on {machine()}:",
        f"```\npython benchmarks/recipes.py {shlex.join(command)}\n```",
        ABOUT,
        ABOUT_MINED,
    ]
    for corpus in dict.fromkeys(one.corpus for one in measured):
        parts += _of_corpus(corpus, [one for one in measured if one.corpus == corpus])
    replace_section(path, "recipes", "\n\n".join(parts))


def _of_corpus(corpus: str, measured: Sequence[Measured]) -> list[str]:
    done: dict[str, list[Mapping[str, Any]]] = {}
    mined: dict[str, dict[int, Mapping[str, Any]]] = {}
    for one in measured:
        if one.result:
            done.setdefault(one.label, []).append(one.result["evaluation"])
        if one.mining:
            mined.setdefault(one.mined_label, {})[one.seed] = one.mining
    rows = [_baseline_row(evaluations) for evaluations in done.values()][:1]
    rows += [[label, str(len(found)), *_cells(found)] for label, found in done.items()]
    by_label = {label: list(of_seed.values()) for label, of_seed in mined.items()}
    return [
        f"### Recipes on {corpus}",
        table(["trained on", "seeds", *TESTS, GUARD], rows),
        table(
            ["mined", "pairs", "Spearman", "separability", "overlap", "TF-IDF alone", "seconds"],
            [row for label, found in by_label.items() for row in _mined_rows(label, found)],
        ),
        *(_negatives(found) for found in by_label.values() if "negatives" in found[0]),
    ]


def _sets(evaluation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*(evaluation["sets"][name] for name in TESTS), evaluation["guards"][GUARD]]


def _baseline_row(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    return ["(baseline)", "", *(f"{entry['baseline']['spearman']:.4f}" for entry in _sets(evaluations[0]))]


def _cells(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the cell of each set, from one evaluation a seed."""
    return [_cell(entries) for entries in zip(*map(_sets, evaluations), strict=True)]


def _cell(entries: Sequence[Mapping[str, Any]]) -> str:
    figures = [entry["bundle"]["spearman"] for entry in entries]
    middle, low, high = (mean(entry["difference"][key] for entry in entries) for key in ("spearman", "low", "high"))
    spread = f"; {min(figures):.4f} to {max(figures):.4f}" if len(figures) > 1 else ""
    return f"**{mean(figures):.4f}** {middle:+.4f} [{low:+.4f}, {high:+.4f}]{spread}"


def _mined_rows(label: str, found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a row for each mined file, from one mining a seed; the seconds are of all its files together."""
    seconds = f"{mean(one['seconds'] for one in found):.0f}"
    rows = []
    for name in found[0]["files"]:
        files = [one["files"][name] for one in found]
        columns = [[file["baseline"][key] for file in files] for key in ("spearman", "separability", "overlap")]
        columns.append([file["tfidf"] for file in files])
        # A figure that does not exist (all scores equal) is null.
        figures = ["-" if None in column else f"{mean(column):.4f}" for column in columns]
        pairs = f"{mean(file['pairs'] for file in files):,.0f}"
        rows.append([label if name == "pairs" else f"{label}, {name}", pairs, *figures, seconds])
    return rows


def _negatives(found: Sequence[Mapping[str, Any]]) -> str:
    """Say how many of the negatives that sentence-transformers mined were none."""
    anchors, with_negatives, first, negatives, own = (
        sum(one["negatives"][key] for one in found)
        for key in (
            "anchors",
            "anchors_with_negatives",
            "first_negatives_of_own_group",
            "negatives",
            "negatives_of_own_group",
        )
    )
    settings = found[0]["negatives"]["settings"]
    return (
        f"sentence-transformers: `mine_hard_negatives` with `{settings}`. Of {anchors:,} anchors (all seeds) "
        f"{with_negatives:,} got negatives. The first negative was of the anchor's own group for "
        f"{first / with_negatives:.0%} of them, and {own / negatives:.0%} of all negatives were. Those were left out; "
        "of each anchor the first of another group was kept."
    )
