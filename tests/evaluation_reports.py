"""Evaluation reports for tests of what reads them."""

from simile.artifacts import BundleReport


def evaluation_report(**changed) -> BundleReport:
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
    return BundleReport.model_validate(empty | changed | {"bundle": bundle | changed.get("bundle", {})})
