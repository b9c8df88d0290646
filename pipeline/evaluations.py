"""``evaluation.json`` in a bundle: what evaluation found, one report for each provider and precision."""

import errno
import json
from pathlib import Path
from typing import Any

from simile.artifacts import EVALUATION
from simile.files import write_whole
from simile.progress import say


def remember_evaluation(bundle: Path, report: dict[str, Any]) -> None:
    """Put the report into the bundle, in place of an earlier one of the same provider and precision.

    A bundle that cannot be written to (a read-only volume) stays as it is, and that is said.
    """
    file = bundle.resolve() / EVALUATION
    mine = report["bundle"]
    earlier = json.loads(file.read_bytes())["reports"] if file.is_file() else []
    kept = [
        one
        for one in earlier
        if one["bundle"]["digest"] == mine["digest"]
        and (one["bundle"]["provider"], one["bundle"]["precision"]) != (mine["provider"], mine["precision"])
    ]
    try:
        write_whole(file, json.dumps({"reports": [*kept, report]}, indent=2) + "\n")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        say(f"{bundle}: cannot be written to, the evaluation is not kept in it")
