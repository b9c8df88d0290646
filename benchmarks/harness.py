"""The benchmark harness: command-line options, running commands, and evaluating bundles."""

import argparse
import gzip
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

TESTS = ("test-seen", "test-unseen", "test-bands")
"""Held-out sets of a corpus on which bundles are evaluated."""
GUARD = "stsb"
"""The set of general pairs that shows what a training forgot."""
SIMILE: tuple[str, ...] = (sys.executable, "-m", "pipeline.cli")
"""The `simile` command of this environment, independent of the path."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """The files of a corpus below --data."""

    folder: Path

    @property
    def documents(self) -> Path:
        """The documents to mine from."""
        return self.folder / "corpus.jsonl.gz"

    @property
    def dev(self) -> Path:
        """The pairs whose difficulty the mined ones follow, and by which the best weights are chosen."""
        return self.folder / "dev.jsonl.gz"

    @property
    def unlabelled(self) -> Path:
        """Texts of the same domain without groups; not every corpus has them."""
        return self.folder / "unlabelled.jsonl.gz"

    @property
    def tests(self) -> list[Path]:
        """The held-out sets that the corpus has."""
        return [path for test in TESTS if (path := self.folder / f"{test}.jsonl.gz").is_file()]

    @property
    def held_out(self) -> list[str | Path]:
        """The options that keep the texts of the tests out of what is mined."""
        return [word for path in self.tests for word in ("--held-out", path)]

    def mine(self, baseline: Path, out: Path, *options: str) -> None:
        """Mine pairs that follow the dev set into the folder, unless it is there."""
        if not out.is_dir():
            target = ["--target", self.dev, *self.held_out, "--baseline", baseline]
            run([*SIMILE, "mine", self.documents, *target, *options, "--out", out])


@dataclass(frozen=True, slots=True)
class Usage:
    """Time and memory that a command used."""

    seconds: float
    cpu_seconds: float
    """Time on all cores; beside other work, it says more than the time that passed."""
    peak_mib: float
    """Peak memory of the command's largest process."""


def place_parser(about: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options for the folders."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("SIMILE_DATA")
    parser.add_argument("--data", type=Path, default=data, required=not data, help="the corpora (default: SIMILE_DATA)")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"), help="folders that may be deleted")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="one file per measured row")
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"))
    return parser


def parser_of(about: str | None, corpora: Iterable[str]) -> argparse.ArgumentParser:
    """Return a parser with the options for folders and corpora."""
    parser = place_parser(about)
    parser.add_argument("--corpora", nargs="+", choices=tuple(corpora), default=list(corpora))
    parser.add_argument("--only-write", action="store_true", help="write the existing results without measuring")
    return parser


def evaluate(bundle: Path, sets: Sequence[Path], baseline: Path, data: Path, file: Path) -> dict[str, Any]:
    """Evaluate the bundle against the baseline on the sets and the guard; write and return the report."""
    guard = f"{GUARD}={data / GUARD / 'test.jsonl.gz'}"
    run([*SIMILE, "evaluate", bundle, *sets, "--baseline", baseline, "--guard", guard, "--json", file])
    evaluation: dict[str, Any] = json.loads(file.read_text())
    return evaluation


def run(command: Sequence[str | Path]) -> Usage:
    """Run the command and return its time, including the start of Python, and its memory.

    Raises:
        SystemExit: the command failed.
    """
    print(f"$ {shlex.join(map(str, command))}", file=sys.stderr, flush=True)
    start = time.monotonic()
    process = subprocess.Popen(command)
    try:
        # Only wait4 returns the memory of this one child; process.wait() does not.
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"exit code {process.returncode} of: {shlex.join(map(str, command))}")
    kib = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return Usage(time.monotonic() - start, usage.ru_utime + usage.ru_stime, kib / 1024)


def train_peer(corpus: Corpus, bundle: Path, *options: str) -> Usage:
    """Fine-tune with plain sentence-transformers on the documents' groups (`st_train.py`)."""
    script = Path(__file__).with_name("st_train.py")
    held_out = ["--held-out", corpus.dev, *corpus.held_out]
    return run([sys.executable, script, corpus.documents, *held_out, *options, "--out", bundle])


def end_with_children() -> None:
    """Handle SIGTERM like Ctrl-C, so that no command is left running."""

    def end(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the file atomically; equal rows give equal bytes, also compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as raw:
        packed = gzip.GzipFile("", "wb", 1, raw, mtime=0) if path.suffix == ".gz" else raw
        with io.TextIOWrapper(packed, "utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    os.replace(temporary, path)
