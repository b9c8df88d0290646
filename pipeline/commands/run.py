"""`simile run`: the whole path on one's own data."""

import shlex
import shutil
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.options import ColumnOption, OverrideOptions, named
from pipeline.output import GATE_FAILED, print_lines, result_table, verdict
from pipeline.presets import recipes
from simile.artifacts import read_documents
from simile.errors import InputError

if TYPE_CHECKING:
    from pipeline.engines import TrainMembers


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
    engine: Literal["local", "ray"] = "local"
    """Where members, and the shares of ``most_pairs``, are trained: one after the other in this process, or side by
    side on a Ray cluster."""
    num_cpus: Annotated[int | None, Field(ge=1)] = None
    """Cores per training on the Ray cluster (default: the most with which all trainings can run at once)."""
    num_gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs per training on the Ray cluster."""


def run(options: Options) -> int:
    """Run all stages on the documents or of the config, print the results, and return the exit code."""
    from pipeline.columns import columns_of
    from pipeline.run import run as run_stages
    from pipeline.run_config import read_run_config

    train_members = _engine(options)
    config = read_run_config(options.source, options.set, options)
    if config.documents:
        # A fault that the first document shows must not wait until the baseline is exported.
        next(read_documents(config.documents, columns_of("documents", config), config.reading))
    report = run_stages(config, restart=options.restart, train_members=train_members)
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


def _engine(options: Options) -> "TrainMembers":
    if options.engine == "ray":
        from pipeline.engines import ray_training

        return partial(ray_training.train, num_cpus=options.num_cpus, num_gpus=options.num_gpus)
    if options.num_cpus or options.num_gpus:
        raise InputError("got --num-cpus or --num-gpus with the local engine, need --engine ray for them")
    from pipeline.engines import local

    return local.train
