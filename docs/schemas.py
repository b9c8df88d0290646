"""The JSON schemas of what Simile writes: `python -m docs.schemas` writes them into docs/schemas."""

import json
from pathlib import Path

from pydantic import BaseModel

from labelling.report import LabelReport
from simile.artifacts import EvaluationReport, Manifest, MiningReport, StoredEvaluations, TrainingHistory
from simile.artifacts.bulk_manifest import BulkManifest, BulkPart
from simile.files import write_whole

SCHEMAS: dict[str, type[BaseModel]] = {
    "manifest": Manifest,
    "evaluation-report": EvaluationReport,
    "evaluation": StoredEvaluations,
    "mining-report": MiningReport,
    "training-history": TrainingHistory,
    "bulk-manifest": BulkManifest,
    "bulk-part": BulkPart,
    "label-report": LabelReport,
}
"""The model of each schema, by the name of its file."""


def schema(name: str) -> str:
    """Return the JSON schema of this name as the text of its file."""
    return json.dumps(SCHEMAS[name].model_json_schema(mode="serialization"), indent=2) + "\n"


if __name__ == "__main__":
    for name in SCHEMAS:
        write_whole(Path(__file__).parent / "schemas" / f"{name}.json", schema(name))
