"""The trial of a bundle: a process of its own loads it and scores with it, so that a bad one cannot harm a service.

``python -m simile.scoring.trial BUNDLE DEVICE PRECISION [KEY]`` prints the bundle's digest, or the fault in one line.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from simile.errors import SimileError
from simile.scoring.faults import blaming
from simile.scoring.provider import Device, Precision
from simile.scoring.scorer import Scorer, load

_WARM_SHAPES = ((1, 8), (1, 64), (8, 16))
"""Number of pairs and words per text. A provider prepares each combination, a new shape, at its first use."""


def load_warm(path: str | Path, device: Device, precision: Precision, verify_key: str | Path | None = None) -> Scorer:
    """Return the bundle's scorer after `load` and after running common shapes."""
    scorer = load(path, device=device, precision=precision, verify_key=verify_key)
    with blaming(path, "cannot score"):
        for num_pairs, num_words in _WARM_SHAPES:
            words = " warm" * (num_words - 1)
            scorer.score([(f"{i}a{words}", f"{i}b{words}") for i in range(num_pairs)])
    return scorer


def main(arguments: Sequence[str]) -> int:
    """Try the bundle; return the exit code."""
    path, device, precision, *verify_key = arguments
    # If memory is short, the kernel ends this process and not the service.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        scorer = load_warm(path, cast(Device, device), cast(Precision, precision), *verify_key)
    except SimileError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(scorer.bundle.manifest.digest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
