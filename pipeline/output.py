"""What commands print, and where they may write."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from simile.errors import InputError

if TYPE_CHECKING:
    from simile.artifacts import EvaluationReport

GATE_FAILED = 3
"""Exit code of a command whose gate did not pass."""


def print_lines(*lines: str) -> None:
    """Print the lines to stdout."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def verdict(report: "EvaluationReport") -> str:
    """Return the gate's verdict with its reasons."""
    return f"{report.verdict} ({'; '.join(report.reasons)})"


def require_no_folder(*files: Path | None) -> None:
    """Refuse a folder where a file is to be written, before the work that would be lost.

    Raises:
        InputError: one of the paths is a folder.
    """
    for file in files:
        if file and file.is_dir():
            raise InputError(f"{file}: is a folder, need a file to write to")
