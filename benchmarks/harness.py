"""What the benchmarks share: running a command, and writing a section of the results."""

import argparse
import gzip
import io
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from simile.files import write_whole

TESTS = ("test-seen", "test-unseen", "test-bands")
"""Held-out pairs of a corpus that trainings are judged on..."""
GUARD = "stsb"
"""...and those, of no corpus, that show what was forgotten."""
SIMILE: tuple[str, ...] = (sys.executable, "-m", "pipeline.cli")
"""The `simile` command of this environment, whatever is on the path."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command took."""

    seconds: float
    peak_mib: float
    """The most memory that its largest process held."""


def place_parser(about: str | None) -> argparse.ArgumentParser:
    """Return a parser of where everything lies."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("SIMILE_DATA")
    parser.add_argument("--data", type=Path, default=data, required=not data, help="the corpora (default: SIMILE_DATA)")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"))
    return parser


def parser_of(about: str | None, corpora: Iterable[str]) -> argparse.ArgumentParser:
    """Return a parser of where everything lies, which corpora are measured, and whether any is."""
    parser = place_parser(about)
    parser.add_argument("--corpora", nargs="+", choices=tuple(corpora), default=list(corpora))
    parser.add_argument("--only-write", action="store_true", help="write what there is, measure nothing")
    return parser


def evaluate(bundle: Path, sets: Sequence[Path], baseline: Path, data: Path, file: Path) -> dict[str, Any]:
    """Return the bundle's evaluation beside the baseline's on the sets and the guard, which is left in the file."""
    guard = f"{GUARD}={data / GUARD / 'test.jsonl.gz'}"
    run([*SIMILE, "evaluate", bundle, *sets, "--baseline", baseline, "--guard", guard, "--json", file])
    evaluation: dict[str, Any] = json.loads(file.read_text())
    return evaluation


def run(command: Sequence[str | Path]) -> Usage:
    """Run the command to its end and return what it took, the start of Python and its imports included.

    Raises:
        SystemExit: it failed.
    """
    print(f"$ {shlex.join(map(str, command))}", file=sys.stderr, flush=True)
    start = time.monotonic()
    process = subprocess.Popen(command)
    try:
        # Not process.wait(): only wait4 tells this child's own memory.
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"exit code {process.returncode} of: {shlex.join(map(str, command))}")
    kib = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return Usage(time.monotonic() - start, kib / 1024)


def end_with_children() -> None:
    """End at SIGTERM as at Ctrl-C, so that no command is left running."""

    def end(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the file whole or not at all; the same rows make the same bytes, compressed too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as raw:
        packed = gzip.GzipFile("", "wb", 1, raw, mtime=0) if path.suffix == ".gz" else raw
        with io.TextIOWrapper(packed, "utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    os.replace(temporary, path)


def commit() -> str:
    """Return the commit that the code is at, and whether it was changed since (docs are no code)."""
    head = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", ".", ":!docs")
    return f"{head} with changes" if changed else head


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    return done.stdout.strip() or ("no git" if done.returncode else "")


def machine() -> str:
    """Return the processor's name and how many cores may be used."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} cores"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def replace_section(path: Path, name: str, text: str) -> None:
    """Put the text between the markers of that name; everything else in the file stays as it is."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = path.read_text() if path.is_file() else "# Results\n"
    section = f"{first}\n\n{text.strip()}\n\n{last}"
    before, found, rest = old.partition(first)
    if found:
        _, closed, after = rest.partition(last)
        if not closed:
            sys.exit(f"{path}: got {first} without {last} after it")
        write_whole(path, before + section + after)
    else:
        write_whole(path, f"{old.rstrip()}\n\n{section}\n")
