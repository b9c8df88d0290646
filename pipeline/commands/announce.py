"""`simile announce`: people learn of a bundle that passed the gate, and decide whether it is served."""

from pathlib import Path
from typing import Annotated, Literal

from pipeline.options import CommandOptions, named, value
from simile.errors import InputError


class Options(CommandOptions):
    """Options of `simile announce`."""

    folder: Annotated[Path, named("RUN")]
    """The folder of a run whose bundle passed the gate."""
    address: Annotated[str, named("ADDRESS")]
    """Where the bundle was published: what `simile push` printed, or its name on a volume."""
    format: Literal["json", "github"] = "json"
    """Body of the notice that is sent to ``SIMILE_WEBHOOK_URL``: ``json``, whose ``text`` Slack shows, or ``github``,
    a repository_dispatch event of type ``simile-bundle``."""
    model: Annotated[str | None, value("NAME")] = None
    """Registered model of the MLflow at ``MLFLOW_TRACKING_URI`` that gets the bundle as a version with the alias
    ``candidate``."""


def run(options: Options) -> int:
    """Register the bundle and send the notice, as far as they are wanted; return the exit code."""
    from pipeline.announcement import read_notice, register
    from simile.mlflow import TRACKING_URI, require_mlflow
    from simile.progress import say
    from simile.webhook import WEBHOOK, post_json, webhook_address

    webhook = webhook_address()
    if options.model and not require_mlflow():
        raise InputError(f"got --model, need {TRACKING_URI}")
    if not webhook and not options.model:
        raise InputError(f"need {WEBHOOK} or --model: there is nobody to tell")
    notice = read_notice(options.folder, options.address)
    if options.model:
        notice = register(notice, options.folder, options.model)
        say(f"registered as {notice.model}")
    if webhook:
        post_json(webhook, notice.as_github() if options.format == "github" else notice.as_json())
        say("the notice was sent")
    return 0
