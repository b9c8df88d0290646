"""`simile run`: the whole path on one's own data."""

import shlex
import shutil
import sys
from typing import Annotated

from pydantic import Field

from pipeline.options import ColumnOption, OverrideOptions, named
from pipeline.output import GATE_FAILED, print_lines, result_table, verdict
from pipeline.presets import recipes
from simile.artifacts import read_documents


class Options(OverrideOptions, ColumnOption):
    """Options of `simile run`."""

    source: Annotated[
        str,
        named("SOURCE"),
        Field(
            description="Documents to mine from (a table as `simile mine` takes it, or a folder of such), a config "
            f"(``.yaml``), or a recipe by name: {', '.join(recipes())}."
        ),
    ]


def run(options: Options) -> int:
    """Run all stages on the documents or of the config, print the results, and return the exit code."""
    from pipeline.columns import columns_of
    from pipeline.run import run as run_stages
    from pipeline.run_config import read_run_config

    config = read_run_config(options.source, options.set, options)
    if config.documents:
        # A fault that the first document shows must not wait until the baseline is exported.
        next(read_documents(config.documents, columns_of("documents", config), config.reading))
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
