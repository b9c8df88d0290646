"""Evaluation reports for tests of what reads them."""

from simile.artifacts import EvaluationReport


def evaluation_report(**changed) -> EvaluationReport:
    """Return a report of no sets, with some of its parts changed."""
    bundle = {"name": "my_bundle", "digest": "f" * 64, "provider": "CPUExecutionProvider", "precision": "fp32"}
    empty = {
        "bundle": bundle,
        "baseline": None,
        "prior": None,
        "sets": {},
        "guards": {},
        "interval": {"unit": {}, "resamples": 1000, "seed": 0},
        "leaked_texts": None,
    }
    return EvaluationReport.model_validate(empty | changed | {"bundle": bundle | changed.get("bundle", {})})
