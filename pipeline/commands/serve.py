"""`simile serve`: a bundle over HTTP."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, create_model

from pipeline.options import CommandOptions, default_text, named, value
from serving.settings import ENVIRONMENT_ONLY, Settings, variable


class _Bundle(CommandOptions):
    bundle: Annotated[Path, named("BUNDLE")]
    """The bundle to serve."""


def _flag(name: str) -> Any:
    """Return a flag for the setting, which takes text as its variable does: the settings read both, and check them."""
    setting = Settings.model_fields[name]
    shown = {"default": setting.default, "environment": variable(name)}
    described = Field(description=f"{setting.description} ({variable(name)})", json_schema_extra=shown)
    return Annotated[str | None, value(name.upper(), default=default_text(setting.default)), described], None


_FLAGS = {name: _flag(name) for name in Settings.model_fields if name not in ENVIRONMENT_ONLY}
Options: Any = create_model("Options", __base__=_Bundle, **_FLAGS)


def run(options: Any) -> int:
    """Serve until a signal; return the exit code."""
    from serving.server import run as run_server

    overrides = options.model_dump(exclude={"bundle"})
    return run_server(options.bundle, Settings.resolve(overrides, os.environ))
