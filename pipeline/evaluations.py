"""Evaluations remembered in the bundle: ``evaluation.json``, one report per runtime, and the model card."""

import errno

from simile.artifacts import (
    CARD,
    EVALUATION,
    Bundle,
    EvaluationReport,
    StoredEvaluations,
    model_card,
    stored_evaluations,
)
from simile.files import write_whole
from simile.progress import say


def remember_evaluation(bundle: Bundle, report: EvaluationReport) -> None:
    """Write the report into the bundle, replacing an earlier one of the same provider and precision.

    A bundle that cannot be written to (a read-only volume) stays as it is, with a message.
    """
    runtime = (report.bundle.provider, report.bundle.precision)
    earlier = [
        stored
        for stored in stored_evaluations(bundle)
        if stored.bundle.digest == report.bundle.digest and (stored.bundle.provider, stored.bundle.precision) != runtime
    ]
    stored = StoredEvaluations(reports=(*earlier, report))
    try:
        write_whole(bundle.path / EVALUATION, stored.model_dump_json(indent=2) + "\n")
        write_whole(bundle.path / CARD, model_card(bundle.manifest, stored.reports))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        say(f"{bundle.path}: cannot be written to, so the evaluation is not stored in it")
