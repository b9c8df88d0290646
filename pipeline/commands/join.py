"""`simile join`: several bundles to one."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.options import ColumnOption, positional, value
from pipeline.output import print_lines
from simile.errors import InputError


class Options(ColumnOption):
    """Options of `simile join`."""

    bundles: Annotated[tuple[Path, ...], positional("BUNDLE"), Field(min_length=1)]
    """Bundles whose members are joined."""
    out: Annotated[Path, value("BUNDLE")]
    """Where the joined bundle is written."""
    fit: Annotated[Path | None, value("PAIRS")] = None
    """Labelled pairs on which the members' weights, calibration and thresholds are fitted (default: equal weights,
    without calibration)."""
    calibration: Literal["platt", "isotonic"] | None = None
    """Curve from score to probability that ``--fit`` fits: logistic, or any that rises (default: ``platt``)."""


def run(options: Options) -> int:
    """Write the ensemble and print its weights; return the exit code."""
    from pipeline.columns import read_labelled, require_columns_of
    from pipeline.join import join

    if options.calibration and not options.fit:
        raise InputError("--calibration needs --fit PAIRS to fit it on")
    require_columns_of(options.columns, "pairs")
    (fit,) = read_labelled([options.fit], options.columns) if options.fit else (None,)
    bundle = join(options.bundles, options.out, fit, calibration=options.calibration or "platt")
    weights = bundle.manifest.combine.weights
    print_lines(bundle.identity, *(f"{weight:.4f}  {name}" for name, weight in weights.items()))
    return 0
