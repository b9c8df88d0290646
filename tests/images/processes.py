"""Processes of containers, seen from outside."""

import subprocess
from pathlib import Path


def first_child(process: subprocess.Popen[bytes]) -> int:
    """Return the process that `unshare` made and waits for: process 1 of the container."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
