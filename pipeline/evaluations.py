"""What evaluation found, kept in the bundle: ``evaluation.json``, one report for each runtime, and the model card."""

import errno
import json
from typing import Any

from simile.artifacts import CARD, EVALUATION, Bundle, model_card
from simile.files import write_whole
from simile.progress import say


def remember_evaluation(bundle: Bundle, report: dict[str, Any]) -> None:
    """Put the report into the bundle, in place of an earlier one of the same provider and precision.

    A bundle that cannot be written to (a read-only volume) stays as it is, and that is said.
    """
    file = bundle.path / EVALUATION
    mine = report["bundle"]
    earlier = json.loads(file.read_bytes())["reports"] if file.is_file() else []
    kept = [
        one
        for one in earlier
        if one["bundle"]["digest"] == mine["digest"]
        and (one["bundle"]["provider"], one["bundle"]["precision"]) != (mine["provider"], mine["precision"])
    ]
    reports = [*kept, report]
    try:
        write_whole(file, json.dumps({"reports": reports}, indent=2) + "\n")
        write_whole(bundle.path / CARD, model_card(bundle.manifest, reports))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        say(f"{bundle.path}: cannot be written to, the evaluation is not kept in it")
