"""`simile serve`: a bundle over HTTP."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, create_model

from pipeline.options import CommandOptions, default_text, positional, value
from serving.settings import ENVIRONMENT_ONLY, Settings, variable


class _Bundle(CommandOptions):
    bundle: Annotated[Path, positional("BUNDLE")]
    """The bundle to serve."""


def options_of(settings: type[Settings]) -> type[CommandOptions]:
    """Return options with a flag for each setting that may stand on a command line.

    The flags take text as environment variables do: the settings read both, and say which of them is wrong.
    """
    flags: dict[str, Any] = {}
    for name, setting in settings.model_fields.items():
        if name in ENVIRONMENT_ONLY:
            continue
        shown = {"default": setting.default, "environment": variable(name)}
        description = f"{setting.description} ({variable(name)})"
        flags[name] = (
            Annotated[
                str | None,
                value(name.upper(), default=default_text(setting.default)),
                Field(description=description, json_schema_extra=shown),
            ],
            None,
        )
    return create_model("Options", __base__=_Bundle, **flags)


Options = options_of(Settings)


def run(options: Any) -> int:
    """Serve until a signal; return the exit code."""
    from serving.server import run as run_server

    overrides = options.model_dump(exclude={"bundle"})
    return run_server(options.bundle, Settings.resolve(overrides, os.environ))
