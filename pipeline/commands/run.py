"""`simile run`: the whole path on one's own data."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.options import OverrideOptions, named
from pipeline.output import GATE_FAILED, print_lines, result_table, verdict
from pipeline.presets import recipes


class Options(OverrideOptions):
    """Options of `simile run`."""

    config: Annotated[
        str, named("CONFIG.yaml"), Field(description=f"A file, or a recipe by name: {', '.join(recipes())}.")
    ]


def run(options: Options) -> int:
    """Run all stages of the config, print the results, and return the exit code."""
    from pipeline.run import run as run_stages
    from pipeline.run_config import read_run_config

    config = read_run_config(Path(options.config), options.set)
    report = run_stages(config, restart=options.restart)
    passed = report.verdict == "pass"
    # As it can be typed: in a checkout the command lies in .venv/bin, which may not be on the path.
    command = "simile" if shutil.which("simile") else shlex.quote(sys.argv[0])
    serve = f"{command} serve {shlex.quote(str(config.out))}/bundle"
    print_lines(
        "",
        *result_table(report),
        *(f"note: {text}" for text in report.notes),
        "",
        f"gate      {verdict(report)}",
        f"report    {config.out / 'report.html'}",
        f"bundle    {config.out / 'bundle'}",
        "",
        f"next: {serve}" if passed else "next: read the report; more documents, pairs or groups narrow the interval",
    )
    return 0 if passed else GATE_FAILED
