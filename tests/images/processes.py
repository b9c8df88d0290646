"""Processes of containers, as the host sees them."""

import subprocess
from pathlib import Path


def first_child(process: subprocess.Popen[bytes]) -> int:
    """Return the child that `unshare` waits for, which is process 1 of the container."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
