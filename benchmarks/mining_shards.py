"""Compare mining from sketches of shards with one pass over all documents.

Checks that both have the same document frequencies and, within 0.01, the same figures. Figures go into docs/results.md.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import SIMILE, Usage, end_with_children, run
from mining_scale import generated
from results_file import commit, machine, replace_section, table

from mining.config import MineConfig
from mining.corpus.sketch import Sampling
from mining.corpus.sketch_file import open_sketches, sketch_paths
from simile.artifacts import MiningReport
from simile.artifacts.json_file import read_model
from simile.files import sha256_file

TOLERANCE = 0.01
ABOUT = """\
`simile mine` on synthetic documents (`benchmarks/generate_documents.py`), matched to a target of 4,000 pairs: from the
documents, and from sketches of their shards, made one after the other. Time and memory are those of whole processes."""


def main() -> None:
    """Mine both ways, write the section, and fail if they differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--shards", type=int, default=8, metavar="N")
    parser.add_argument("--pairs", type=int, default=20_000, metavar="N")
    parser.add_argument("--baseline", type=Path, metavar="BUNDLE", help="for separability")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"))
    args = parser.parse_args()
    end_with_children()
    folder = generated(args.size, args.work / "scale")
    with TemporaryDirectory(dir=args.work) as temporary:
        usages, findings, is_equal = compared(folder, Path(temporary), args)
    options = ["--size", str(args.size), "--shards", str(args.shards), "--pairs", str(args.pairs)]
    options += ["--baseline", "BUNDLE"] if args.baseline else []
    write_section(args.out, options, usages, findings)
    sys.exit(not is_equal)


def compared(folder: Path, work: Path, args: argparse.Namespace) -> tuple[dict[str, Usage], list[str], bool]:
    """Return what each command used, what was found, and whether both ways give the same."""
    documents, pairs = folder / "documents.jsonl", ["--pairs", str(args.pairs)]
    options = ["--target", str(folder / "target.jsonl"), *pairs]
    options += ["--baseline", str(args.baseline)] if args.baseline else []

    def mined(source: Path, out: Path) -> Usage:
        return run([*SIMILE, "mine", source, "--out", out, *options])

    def sketched(out: Path, count: int) -> list[Usage]:
        shards = [f"{number}/{count}" for number in range(1, count + 1)]
        return [run([*SIMILE, "mine", documents, "--sketch", shard, "--out", out, *pairs]) for shard in shards]

    usages = {"`simile mine DOCUMENTS`": mined(documents, work / "plain")}
    (usages["`--sketch 1/1`: the pass alone"],) = sketched(work / "whole", 1)
    shards = sketched(work / "sketches", args.shards)
    slowest = max(shards, key=lambda usage: usage.cpu_seconds)
    usages[f"`--sketch I/{args.shards}`: the slowest"] = slowest
    usages["`simile mine SKETCHES`"] = mined(work / "sketches", work / "merged")
    one_pass, alone = list(usages.values())[:2]
    plain, merged = (figures(work / name / "report.json") for name in ("plain", "merged"))
    difference = max(abs(plain[name] - merged[name]) for name in plain)
    has_equal_words = frequencies(work / "whole", args.pairs) == frequencies(work / "sketches", args.pairs)
    has_equal_pairs = len({sha256_file(work / name / "pairs.jsonl") for name in ("plain", "merged")}) == 1
    findings = [
        f"Document frequencies: {'equal' if has_equal_words else 'DIFFERENT'}.",
        f"Pairs: {'the same bytes' if has_equal_pairs else 'other bytes'}.",
        f"Largest difference of a figure ({', '.join(plain)}): {difference:.4f}.",
        f"CPU time of the slowest sketch: {slowest.cpu_seconds / one_pass.cpu_seconds:.3f} of mining in one pass, "
        f"{slowest.cpu_seconds / alone.cpu_seconds:.3f} of the pass alone.",
    ]
    return usages, findings, has_equal_words and difference <= TOLERANCE


def frequencies(folder: Path, pairs: int) -> Counter[str]:
    """Return the number of documents by word, over all sketches in the folder."""
    total = Counter[str]()
    with open_sketches(sketch_paths(folder), Sampling(MineConfig(pairs=pairs).max_documents, 0)) as sketches:
        for sketch in sketches:
            total.update(sketch.frequency)
    return total


def figures(file: Path) -> dict[str, float]:
    """Return the figures of the mined pairs and of their match with the target."""
    report = read_model(file, MiningReport, "need a mining report")
    pairs, match = report.sets["pairs"], report.match
    named = {"TF-IDF alone": pairs.alone.tfidf, "length alone": pairs.alone.length_ratio}
    if match:
        for name, auc in match.adversarial.items():
            named |= {f"AUC of {name} pairs, {of}": getattr(auc, of) for of in ("matched", "all")}
    if pairs.baseline:
        named["separability"] = pairs.baseline.separability
    return {name: value for name, value in named.items() if value is not None}


def write_section(path: Path, options: Sequence[str], usages: Mapping[str, Usage], findings: Sequence[str]) -> None:
    """Write the section ``shards`` of the results."""
    rows: list[list[Any]] = [
        [name, f"{one.seconds:.1f}", f"{one.cpu_seconds:.1f}", f"{one.peak_mib:,.0f}"] for name, one in usages.items()
    ]
    parts = [
        f"Commit {commit()}, on {machine()}:",
        f"```\npython benchmarks/mining_shards.py {' '.join(options)}\n```",
        ABOUT,
        table(["command", "seconds", "CPU seconds", "peak MiB"], rows),
        "\n".join(f"- {finding}" for finding in findings),
    ]
    replace_section(path, "shards", "\n\n".join(parts))
    print(json.dumps(findings, indent=2))


if __name__ == "__main__":
    main()
