"""`simile run`: the whole path on one's own data."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.embedded import recipes
from pipeline.options import OverrideOptions, positional
from pipeline.output import GATE_FAILED, print_lines, verdict


class Options(OverrideOptions):
    """Options of `simile run`."""

    config: Annotated[
        str, positional("CONFIG.yaml"), Field(description=f"A file, or a recipe by name: {', '.join(recipes())}.")
    ]


def run(options: Options) -> int:
    """Run the config; return the exit code."""
    return run_config(Path(options.config), options.set, restart=options.restart)


def run_config(path: Path, overrides: Sequence[str], *, restart: bool) -> int:
    """Run all stages of the config in the file, print the results, and return the exit code."""
    from pipeline.run import run as run_stages
    from pipeline.run_config import read_run_config
    from pipeline.table import result_table

    config = read_run_config(path, overrides)
    report = run_stages(config, restart=restart).report
    passed = report.verdict == "pass"
    # As it can be typed: in a checkout the command lies in .venv/bin, which may not be on the path.
    command = "simile" if shutil.which("simile") else shlex.quote(sys.argv[0])
    serve = f"{command} serve {shlex.quote(str(config.out))}/bundle"
    print_lines(
        "",
        result_table(report),
        "",
        f"gate      {verdict(report)}",
        f"report    {config.out / 'report.html'}",
        f"bundle    {config.out / 'bundle'}",
        "",
        f"next: {serve}" if passed else "next: read the report; more documents, pairs or groups narrow the interval",
    )
    return 0 if passed else GATE_FAILED
