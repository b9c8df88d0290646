"""`simile label` in processes of their own, which tests may kill."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class LabellingServer:
    """The process, the address of its page, and what it says."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])


def write_pairs(path: Path, pairs) -> Path:
    """Write pairs of texts, with further columns where a pair is a dictionary."""
    rows = (pair if isinstance(pair, dict) else {"text_a": pair[0], "text_b": pair[1]} for pair in pairs)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def command(pairs: Path, out: Path, *options: str) -> list[str]:
    arguments = ["-m", "pipeline.cli", "label", str(pairs), "--out", str(out), "--annotator", "ada", "--no-browser"]
    return [sys.executable, *arguments, *options]


@contextmanager
def labelling(pairs: Path, out: Path, *options: str, port: int = 0) -> Iterator[LabellingServer]:
    """Start the command, and yield it once its page answers; kill it at the end."""
    log = out.with_suffix(".log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            command(pairs, out, "--port", str(port), *options), cwd=ROOT, env=os.environ, stdout=file, stderr=file
        )
    try:
        deadline = time.monotonic() + 60
        while not (match := re.search(r"label at (http://\S+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        # It listens before it handles signals, which a process that ignores SIGINT from birth would then miss.
        urllib.request.urlopen(match[1], timeout=60).close()
        yield LabellingServer(process, match[1], log)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
