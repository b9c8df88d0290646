"""`simile evaluate`: a bundle's figures, and the gate's verdict."""

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pipeline.options import ColumnOption, ScoringOptions, named, value
from pipeline.output import GATE_FAILED, print_lines, require_apart, result_table, verdict
from simile import artifacts
from simile.artifacts import Bundle, EvaluationReport, PairSet
from simile.errors import InputError
from simile.files import require_writable, write_whole
from simile.progress import say

if TYPE_CHECKING:
    from evaluation.gate import Gate

_MOST_REPORTS = 20
"""The most reports that a bundle keeps."""


class Options(ScoringOptions, ColumnOption):
    """Options of `simile evaluate`."""

    bundle: Annotated[Path, named("BUNDLE")]
    """The bundle to judge."""
    pairs: Annotated[tuple[str, ...], named("PAIRS"), Field(min_length=1)]
    """Labelled pairs to judge on: a path, ``NAME=PATH``, or a folder of mined pairs, for those test sets that it
    has."""
    baseline: Annotated[Path | None, value("BUNDLE")] = None
    """The bundle to compare with."""
    guard: Annotated[tuple[str, ...], value("PAIRS")] = ()
    """Labelled pairs on which the bundle must not be worse than the baseline. May be repeated."""
    gate: bool = False
    """Exit with 3 unless every gain over the baseline is certain and no guard is lost."""
    guard_margin: Annotated[float, Field(ge=0, allow_inf_nan=False), value("SPEARMAN")] = 0.03
    """Spearman that a guard may lose."""
    allow_undecided_guards: bool = False
    """Let the gate pass guards whose interval does not tell whether more was lost."""
    allow_unknown_training_texts: bool = False
    """Let the gate pass a bundle without the hashes of its training texts, so that leaks cannot be found."""
    ledger: Annotated[Path | None, value("FILE")] = None
    """File that records which bundles the gate has judged on which sets (default: `BASELINE.looks.jsonl`)."""
    json_file: Annotated[Path | None, named("--json"), value("FILE")] = None
    """Write the report as JSON."""
    html: Annotated[Path | None, value("FILE")] = None
    """Write the report as a page."""


def run(options: Options) -> int:
    """Evaluate the bundle, print and keep the figures; return the exit code."""
    from pipeline.columns import read_named, require_columns_of, with_mined_sets

    if options.gate and not options.baseline:
        raise InputError("--gate needs --baseline BUNDLE to compare with")
    if options.ledger and not options.gate:
        raise InputError("--ledger needs --gate, which records in it")
    require_writable(options.json_file, options.html)
    require_columns_of(options.columns, "pairs")
    pairs = with_mined_sets(options.pairs, "test")
    if not pairs:
        raise InputError(f"{options.pairs[0]}: holds no test set, need one (simile mine --test-share 0.2)")
    paths = artifacts.named_pair_paths([*pairs, *options.guard]).values()
    ledger = _ledger(options, options.baseline) if options.baseline else None
    require_apart([options.json_file, options.html], [*paths, options.bundle, options.baseline, ledger])
    judged, num_sets = read_named([*pairs, *options.guard], options), len(pairs)
    report = judge(options, judged[:num_sets], judged[num_sets:], {"Training": options.bundle})
    notes = [f"note: {text}" for text in report.notes]
    print_lines(*result_table(report), *notes, *([f"gate: {verdict(report)}"] if options.gate else []))
    return GATE_FAILED if report.verdict == "fail" else 0


def judge(
    options: Options, sets: Sequence[PairSet], guards: Sequence[PairSet], trainings: Mapping[str, Path]
) -> EvaluationReport:
    """Evaluate the bundle on these pairs, which the options name, write its reports, and remember the evaluation in it.

    The page shows the training of each bundle in ``trainings``, under its title there.
    """
    from evaluation.evaluate import evaluate
    from evaluation.report import to_page
    from pipeline.training_report import training_blocks
    from simile.scoring import load

    scorer = load(options.bundle, device=options.device, precision=options.precision)
    # Both on the same runtime: a difference then says something about the weights only.
    baseline = load(options.baseline, runtime=scorer.runtime) if options.baseline else None
    evaluation = evaluate(
        scorer,
        sets,
        baseline=baseline,
        guards=guards,
        gate=_gate(options, scorer.bundle, options.baseline, sets) if options.gate and options.baseline else None,
        training_texts=artifacts.read_training_texts(scorer.bundle),
        prior=options.prior,
    )
    if options.json_file:
        write_whole(options.json_file, evaluation.report.model_dump_json(indent=2) + "\n")
    if options.html:
        curves = [block for title, path in trainings.items() for block in training_blocks(path, title)]
        write_whole(options.html, to_page(evaluation, [*sets, *guards], extra=curves))
    remember_evaluation(scorer.bundle, evaluation.report)
    return evaluation.report


def _ledger(options: Options, baseline: Path) -> Path:
    """Return the ledger that the gate records in."""
    from evaluation.ledger import ledger_beside

    return options.ledger or ledger_beside(Path(os.path.realpath(baseline)))


def _gate(options: Options, bundle: Bundle, baseline: Path, sets: Sequence[PairSet]) -> "Gate":
    """Return the gate's conditions, after recording this look at the sets."""
    from evaluation.gate import Gate
    from evaluation.ledger import count_looks

    looks, remark = count_looks(_ledger(options, baseline), bundle.manifest.digest, sets)
    return Gate(
        guard_margin=options.guard_margin,
        allow_undecided_guards=options.allow_undecided_guards,
        allow_unknown_training_texts=options.allow_unknown_training_texts,
        looks=looks,
        remarks=(remark,) if remark else (),
    )


def remember_evaluation(bundle: Bundle, report: EvaluationReport) -> None:
    """Add the report to the bundle and its model card, in place of one of the same sets, baseline and runtime.

    A report without a verdict replaces none with a verdict. The oldest ones beyond `_MOST_REPORTS` are removed, first
    those without a verdict. A bundle that cannot be written to (a read-only volume) stays as it is, with a message.
    """

    def key(stored: EvaluationReport) -> tuple[object, ...]:
        judged = [[(name, entry.sha256) for name, entry in part.items()] for part in (stored.sets, stored.guards)]
        baseline = stored.baseline.digest if stored.baseline else None
        return judged, baseline, stored.bundle.provider, stored.bundle.precision, stored.verdict is None

    earlier = [one for one in artifacts.stored_evaluations(bundle) if one.bundle.digest == report.bundle.digest]
    reports = [*(one for one in earlier if key(one) != key(report)), report]
    while len(reports) > _MOST_REPORTS:
        reports.remove(next((one for one in reports[:-1] if one.verdict is None), reports[0]))
    stored = artifacts.StoredEvaluations(reports=tuple(reports))
    try:
        write_whole(bundle.path / artifacts.EVALUATION, stored.model_dump_json(indent=2) + "\n")
        write_whole(bundle.path / artifacts.CARD, artifacts.model_card(bundle.manifest, stored.reports))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        say(f"{bundle.path}: cannot be written to, so the evaluation is not stored in it")
