"""Measure how wall time and peak memory of `simile mine` grow with the number of synthetic documents.

A stopped benchmark resumes from its results under --work. The figures go into docs/results.md.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import SIMILE, end_with_children, run
from results_file import commit, machine, replace_section, table

from simile.artifacts.reading import read_rows
from simile.files import whole_directory, write_whole

ABOUT = """\
`simile mine` on synthetic documents (`benchmarks/generate_documents.py`), matched to a target of 4,000 pairs of other
documents of the same groups. Seconds and memory are those of the whole process, including reading and writing."""


def main() -> None:
    """Measure the sizes without a result, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], metavar="N")
    parser.add_argument("--pairs", type=int, default=20_000, metavar="N")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"))
    args = parser.parse_args()
    end_with_children()
    results = [measure(size, args.pairs, args.work / "scale") for size in args.sizes]
    command = ["--sizes", *map(str, args.sizes), "--pairs", str(args.pairs)]
    write_section(args.out, command, results)


def measure(size: int, pairs: int, work: Path) -> dict[str, Any]:
    """Return time and memory of mining this many pairs from this many documents."""
    file = work / f"{size}-documents-{pairs}-pairs.json"
    if not file.is_file():
        report = {"commit": commit(), "documents": size, **mine(generated(size, work), pairs)}
        write_whole(file, json.dumps(report, indent=2) + "\n")
    result: dict[str, Any] = json.loads(file.read_text())
    return result


def mine(folder: Path, pairs: int) -> dict[str, float]:
    """Mine from the folder's documents; return the number of pairs, time and memory."""
    documents, target = folder / "documents.jsonl", folder / "target.jsonl"
    with TemporaryDirectory(dir=folder.parent) as temporary:
        out = Path(temporary) / "mined"
        where: list[str | Path] = [documents, "--target", target, "--out", out]
        usage = run([*SIMILE, "mine", *where, "--pairs", str(pairs)])
        num_pairs = sum(1 for _ in read_rows(out / "pairs.jsonl"))
    words = {word for row in read_rows(documents) for word in row.fields["text"].split()}
    return {"words": len(words), "pairs": num_pairs, "seconds": usage.seconds, "peak_mib": usage.peak_mib}


def generated(size: int, work: Path) -> Path:
    """Return the folder with this many documents and their target; generate it if it is missing."""
    folder = work / f"{size}-documents"
    if not folder.is_dir():
        with whole_directory(folder) as new:
            script = Path(__file__).with_name("generate_documents.py")
            run([sys.executable, script, str(size), new / "documents.jsonl", "--target", new / "target.jsonl"])
    return folder


def write_section(path: Path, command: Sequence[str], results: Sequence[Mapping[str, Any]]) -> None:
    """Write the section ``scale`` of the results."""
    rows = [
        [
            f"{one['documents']:,}",
            f"{one['words']:,}",
            f"{one['pairs']:,}",
            f"{one['seconds']:.1f}",
            f"{one['peak_mib']:,.0f}",
        ]
        for one in results
    ]
    parts = [
        f"Commit {', '.join(sorted({one['commit'] for one in results}))}, on {machine()}:",
        f"```\npython benchmarks/mining_scale.py {shlex.join(command)}\n```",
        ABOUT,
        table(["documents", "distinct words", "pairs", "seconds", "peak MiB"], rows),
    ]
    replace_section(path, "scale", "\n\n".join(parts))


if __name__ == "__main__":
    main()
