"""What the tests of several clients share."""

import json
import os
import subprocess
import sys
from typing import Any

from simile.scoring import Scorer


def fill(path: str, scorer: Scorer) -> str:
    """Return the path with the name and the version of the scorer's bundle."""
    manifest = scorer.bundle.manifest
    return path.replace("{name}", manifest.name).replace("{version}", manifest.digest[:12])


def run_client(program: str, *arguments: str, python: str = sys.executable, **environ: str) -> Any:
    """Run a program with the arguments; return what the last line of its output holds as JSON.

    Some clients leave connections open, which is a warning, and so an error, in the process of the tests.
    """
    command = [python, "-c", program, *arguments]
    done = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])
