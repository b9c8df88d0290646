"""`simile quickstart`: the whole path on the embedded sample."""

import json
from pathlib import Path

from pipeline.options import OverrideOptions


class Options(OverrideOptions):
    """Options of `simile quickstart`."""

    out: Path = Path("quickstart")
    """Folder of all results."""


def run(options: Options) -> int:
    """Run the sample's config; return the exit code."""
    from pipeline.commands import run
    from pipeline.presets import EXAMPLES

    overrides = (f"out={json.dumps(str(options.out))}", *options.set)
    config = str(EXAMPLES / "helpdesk" / "run.yaml")
    return run.run(run.Options(source=config, set=overrides, restart=options.restart))
