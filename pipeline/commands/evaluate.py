"""`simile evaluate`: a bundle's figures, and the gate's verdict."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.options import ColumnOption, PriorOption, RuntimeOptions, flag, positional, value
from pipeline.output import GATE_FAILED, print_lines, require_no_folder, verdict
from simile.errors import InputError


class Options(RuntimeOptions, PriorOption, ColumnOption):
    """Options of `simile evaluate`."""

    bundle: Annotated[Path, positional("BUNDLE")]
    """The bundle to judge."""
    pairs: Annotated[tuple[str, ...], positional("PAIRS"), Field(min_length=1)]
    """Files of labelled pairs to judge on: a path, or ``NAME=PATH``."""
    baseline: Annotated[Path | None, value("BUNDLE")] = None
    """The bundle to compare with."""
    guard: Annotated[tuple[str, ...], value("PAIRS")] = ()
    """Labelled pairs on which the bundle must not be worse than the baseline. May be repeated."""
    gate: bool = False
    """Exit with 3 unless every gain over the baseline is certain and no guard is lost."""
    guard_margin: Annotated[float, value("SPEARMAN")] = 0.01
    """Spearman that a guard may lose."""
    json_file: Annotated[Path | None, flag("--json"), value("FILE")] = None
    """Write the report as JSON."""
    html: Annotated[Path | None, value("FILE")] = None
    """Write the report as a page."""


def run(options: Options) -> int:
    """Evaluate the bundle, print and keep the figures; return the exit code."""
    from evaluation.evaluate import Gate, evaluate
    from evaluation.report import to_page
    from pipeline.columns import read_named, require_columns_of
    from pipeline.evaluations import remember_evaluation
    from pipeline.table import result_table
    from pipeline.training_report import training_blocks
    from simile.artifacts import read_bundle, read_training_texts
    from simile.files import write_whole
    from simile.scoring import Scorer, load

    if options.gate and not options.baseline:
        raise InputError("--gate needs --baseline BUNDLE to compare with")
    require_no_folder(options.json_file, options.html)
    require_columns_of(options.columns, "pairs")
    judged, num_sets = read_named([*options.pairs, *options.guard], options.columns), len(options.pairs)
    scorer = load(options.bundle, device=options.device, precision=options.precision)
    evaluation = evaluate(
        scorer,
        judged[:num_sets],
        # Both on the same runtime: a difference then says something about the weights only.
        baseline=Scorer(read_bundle(options.baseline), scorer.runtime) if options.baseline else None,
        guards=judged[num_sets:],
        gate=Gate(options.guard_margin) if options.gate else None,
        training_texts=read_training_texts(scorer.bundle),
        prior=options.prior,
    )
    report = evaluation.report
    if options.json_file:
        write_whole(options.json_file, report.model_dump_json(indent=2) + "\n")
    if options.html:
        write_whole(options.html, to_page(evaluation, judged, extra=training_blocks(options.bundle)))
    remember_evaluation(scorer.bundle, report)
    print_lines(result_table(report), *([f"gate: {verdict(report)}"] if options.gate else []))
    return GATE_FAILED if report.verdict == "fail" else 0
