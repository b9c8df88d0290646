"""`simile quickstart`: the whole path on the embedded sample."""

import json
from pathlib import Path
from typing import Annotated

from pipeline.options import OverrideOptions, value


class Options(OverrideOptions):
    """Options of `simile quickstart`."""

    out: Path = Path("quickstart")
    """Folder of all results."""
    preset: Annotated[str | None, value("NAME")] = None
    """Preset to train (default: minilm)."""


def run(options: Options) -> int:
    """Run the sample's config; return the exit code."""
    from pipeline.commands import run
    from pipeline.presets import EXAMPLES

    preset = [f"train.preset={options.preset}"] if options.preset else []
    overrides = (f"out={json.dumps(str(options.out))}", *preset, *options.set)
    config = str(EXAMPLES / "helpdesk" / "run.yaml")
    return run.run(run.Options(source=config, set=overrides, restart=options.restart))
