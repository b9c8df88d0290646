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
    from pipeline.commands.run import run_config
    from pipeline.embedded import examples_folder

    overrides = [f"out={json.dumps(str(options.out))}", *options.set]
    return run_config(examples_folder() / "helpdesk" / "run.yaml", overrides, restart=options.restart)
