"""What is told of a published bundle, and its entry in MLflow's registry.

MLflow's API: https://mlflow.org/docs/latest/ml/model-registry/ (versions, tags, aliases).
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simile.artifacts import EvaluationReport, SetEvaluation, read_bundle
from simile.artifacts.json_file import read_model
from simile.artifacts.strict import StrictModel
from simile.errors import InputError, StoppedError
from simile.mlflow import TRACKING_URI, redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

EVENT = "simile-bundle"
"""Type of the event that GitHub's workflows listen to."""
CANDIDATE = "candidate"
"""MLflow's alias of the newest version. A person moves the alias of the served one."""


class SetNotice(StrictModel):
    """The figures of one set of test pairs; None where they are undefined or there was no baseline."""

    pairs: int
    spearman: float | None
    difference: float | None
    """The bundle's Spearman minus the baseline's."""
    low: float | None
    """Low end of the difference's 95 % interval."""
    high: float | None


class Notice(StrictModel):
    """A bundle that passed the gate, in figures; it has no text of a user."""

    run: str
    digest: str
    address: str
    """Where the bundle was published."""
    model: str | None = None
    """Its version in MLflow's registry."""
    sets: dict[str, SetNotice]
    reasons: tuple[str, ...]
    """What held, by the gate, and its remarks."""

    @property
    def text(self) -> str:
        """The notice in words."""
        figures = "; ".join(f"{name}: {_told(entry)}" for name, entry in self.sets.items())
        return (
            f"The bundle of the run {self.run} passed the gate and awaits a decision: {self.address} "
            f"(sha256 {self.digest}). {figures}."
        )

    def as_json(self) -> bytes:
        """Return the body for a receiver that takes any JSON object."""
        return json.dumps(self._entries()).encode()

    def as_github(self) -> bytes:
        """Return the body of a repository_dispatch event, which may have ten entries in its payload."""
        return json.dumps({"event_type": EVENT, "client_payload": self._entries()}).encode()

    def _entries(self) -> dict[str, Any]:
        return {"text": self.text, **self.model_dump(mode="json")}


def read_notice(folder: Path, address: str) -> Notice:
    """Return the notice of a run's bundle.

    Raises:
        InputError: the folder has no bundle or no report, or they do not belong together, or the gate did not pass.
    """
    path = folder / "report.json"
    digest = read_bundle(folder / "bundle").manifest.digest
    try:
        report = read_model(path, EvaluationReport, "need the report of a run")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file, need the report of a run") from error
    judged = getattr(report.bundle, "digest", None)
    if judged != digest:
        raise InputError(f"{path}: is of {judged or 'a server'}, need the report of the bundle {digest}")
    if report.verdict != "pass":
        raise InputError(f"{path}: got the verdict {report.verdict or 'none'}, need a bundle that passed the gate")
    sets = {name: _notice_of(entry) for name, entry in report.all_sets.items()}
    return Notice(run=folder.resolve().name, digest=digest, address=address, sets=sets, reasons=report.reasons)


def _notice_of(entry: SetEvaluation) -> SetNotice:
    gain = entry.difference
    return SetNotice(
        pairs=entry.pairs,
        spearman=entry.bundle.spearman,
        difference=gain and gain.spearman,
        low=gain and gain.low,
        high=gain and gain.high,
    )


def _told(entry: SetNotice) -> str:
    spearman = "no Spearman" if entry.spearman is None else f"Spearman {entry.spearman:.4f}"
    if entry.difference is None or entry.low is None or entry.high is None:
        return f"{spearman} on {entry.pairs:,} pairs"
    gain = f"{entry.difference:+.4f} [{entry.low:+.4f}, {entry.high:+.4f}] against the baseline"
    return f"{spearman}, {gain}, on {entry.pairs:,} pairs"


def register(notice: Notice, folder: Path, model: str) -> Notice:
    """Register the bundle, unless it is, and give its version the alias `CANDIDATE`; return the notice with its name.

    The version is tagged with digest and address, and belongs to an MLflow run that has the reports and the figures.
    The files of the bundle stay where they were published.

    Raises:
        InputError: MLflow refuses the entry, such as a name that it does not allow.
        StoppedError: MLflow cannot be reached or cannot take the entry now.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient()
        versions = client.search_model_versions(f"name = '{model}'")
        earlier = [one.version for one in versions if one.tags.get("digest") == notice.digest]
        version = earlier[0] if earlier else _new_version(client, notice, folder, model)
        client.set_registered_model_alias(model, CANDIDATE, version)
    except MlflowException as error:
        told = f"{TRACKING_URI}: cannot register the bundle as {model} ({redacted(error)})"
        if error.get_http_status_code() < 500:  # type: ignore[no-untyped-call]
            raise InputError(told) from error
        raise StoppedError(f"{told}; run the same command again") from error
    return notice.model_copy(update={"model": f"models:/{model}/{version}"})


def _new_version(client: "MlflowClient", notice: Notice, folder: Path, model: str) -> str:
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    figures = {
        # MLflow refuses other characters; a set may have any name.
        re.sub(r"[^\w/-]", "_", f"{name}/{figure}"): number
        for name, entry in notice.sets.items()
        for figure, number in entry
        if number is not None
    }
    # By default, MLflow records the path of the program.
    with mlflow.start_run(run_name=notice.run, tags={"mlflow.source.name": "simile announce"}) as run:
        for file in ("report.json", "report.html", "bundle/manifest.json"):
            mlflow.log_artifact(str(folder / file))
        mlflow.log_metrics(figures)
    tags = {"digest": notice.digest, "address": notice.address}
    return str(client.create_model_version(model, run.info.artifact_uri, run.info.run_id, tags=tags).version)
