"""`simile evaluate`: the figures of a bundle or of a server, and the gate's verdict."""

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from pipeline.options import ColumnOption, ScoringOptions, named, value
from pipeline.output import GATE_FAILED, print_lines, require_apart, result_table, verdict
from simile import artifacts
from simile.artifacts import Bundle, BundleReport, EvaluationReport, PairSet
from simile.artifacts.bundle import MANIFEST
from simile.errors import InputError
from simile.files import require_writable, write_whole
from simile.progress import say

if TYPE_CHECKING:
    from evaluation.gate import Gate
    from evaluation.judged import Judged
    from simile.scoring import Runtime

_MOST_REPORTS = 20
"""The most reports that a bundle keeps."""


class Options(ScoringOptions, ColumnOption):
    """Options of `simile evaluate`."""

    bundle: Annotated[str | None, named("BUNDLE")] = None
    """The bundle to judge; with ``--endpoint`` there is none."""
    pairs: Annotated[tuple[str, ...], named("PAIRS")] = ()
    """Labelled pairs to judge on: a path, ``NAME=PATH``, or a folder of mined pairs, for those test sets that it
    has."""
    endpoint: Annotated[tuple[str, ...], value("NAME=URL")] = ()
    """Judge the server at this address in place of a bundle, by Simile's API, text-embeddings-inference's or, as
    ``NAME=URL#MODEL``, OpenAI's; its key is read from ``NAME_API_KEY``. A second endpoint is the baseline."""
    baseline: Annotated[str | None, value("BUNDLE")] = None
    """The bundle to compare with, or an endpoint as ``NAME=URL``."""
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


class _Roles(NamedTuple):
    """What the arguments name: a bundle's path or an endpoint as ``NAME=URL`` each, and the pairs."""

    judged: str
    baseline: str | None
    pairs: tuple[str, ...]

    @property
    def bundles(self) -> list[Path]:
        """The paths of the bundles."""
        return [Path(one) for one in (self.judged, self.baseline) if one and not _is_endpoint(one)]


def run(options: Options) -> int:
    """Evaluate the bundle or the endpoint, print and keep the figures; return the exit code."""
    from pipeline.columns import read_named, require_columns_of, with_mined_sets

    roles = _roles(options)
    require_writable(options.json_file, options.html)
    require_columns_of(options.columns, "pairs")
    pairs = with_mined_sets(roles.pairs, "test")
    if not pairs:
        raise InputError(f"{roles.pairs[0]}: holds no test set, need one (simile mine --test-share 0.2)")
    paths = artifacts.named_pair_paths([*pairs, *options.guard]).values()
    ledger = _ledger(options, Path(roles.baseline)) if roles.baseline and not _is_endpoint(roles.baseline) else None
    require_apart([options.json_file, options.html], [*paths, *roles.bundles, ledger])
    judged, num_sets = read_named([*pairs, *options.guard], options), len(pairs)
    trainings = {} if _is_endpoint(roles.judged) else {"Training": Path(roles.judged)}
    report = judge(options, judged[:num_sets], judged[num_sets:], trainings)
    notes = [f"note: {text}" for text in report.notes]
    print_lines(*result_table(report), *notes, *([f"gate: {verdict(report)}"] if options.gate else []))
    return GATE_FAILED if report.verdict == "fail" else 0


def judge(
    options: Options, sets: Sequence[PairSet], guards: Sequence[PairSet], trainings: Mapping[str, Path]
) -> EvaluationReport:
    """Evaluate what the options name on these pairs, write the reports, and remember those of bundles in the bundle.

    The page shows the training of each bundle in ``trainings``, under its title there.
    """
    from evaluation.evaluate import evaluate
    from evaluation.report import to_page
    from pipeline.training_report import training_blocks
    from simile.scoring import Scorer

    roles = _roles(options)
    judged = _opened(roles.judged, options)
    bundle, runtime = (judged.bundle, judged.runtime) if isinstance(judged, Scorer) else (None, None)
    # Both on the same runtime: a difference then says something about the weights only.
    baseline = _opened(roles.baseline, options, runtime=runtime) if roles.baseline else None
    evaluation = evaluate(
        judged,
        sets,
        baseline=baseline,
        guards=guards,
        gate=_gate(options, bundle, Path(roles.baseline), sets) if options.gate and bundle and roles.baseline else None,
        training_texts=artifacts.read_training_texts(bundle) if bundle else None,
        prior=options.prior,
    )
    report = evaluation.report
    if options.json_file:
        write_whole(options.json_file, report.model_dump_json(indent=2) + "\n")
    if options.html:
        curves = [block for title, path in trainings.items() for block in training_blocks(path, title)]
        write_whole(options.html, to_page(evaluation, [*sets, *guards], extra=curves))
    if bundle and isinstance(report, BundleReport):
        remember_evaluation(bundle, report)
    return report


def _is_endpoint(argument: str) -> bool:
    return "://" in argument


def _roles(options: Options) -> _Roles:
    """Return what the arguments name; with ``--endpoint`` there is no bundle, and the first argument is of pairs."""
    arguments = [] if options.bundle is None else [options.bundle, *options.pairs]
    baseline, endpoints = options.baseline, options.endpoint
    if not endpoints:
        if not arguments:
            raise InputError("got no bundle, need BUNDLE or --endpoint NAME=URL")
        if _is_endpoint(arguments[0]):
            raise InputError("got an address as BUNDLE, need --endpoint NAME=URL for a server")
        judged, *arguments = arguments
    else:
        if not all(map(_is_endpoint, endpoints)):
            raise InputError("--endpoint: got no http:// or https:// address, need NAME=URL")
        if len(endpoints) > 2 or (len(endpoints) == 2 and baseline):
            raise InputError("got more than two to compare, need one --endpoint, and a second one or --baseline")
        if arguments and (Path(arguments[0]) / MANIFEST).is_file():
            hint = "to compare a bundle with a server, give the server as --baseline NAME=URL"
            raise InputError(f"got the bundle {arguments[0]} and --endpoint, need one of them; {hint}")
        judged, baseline = endpoints[0], baseline or next(iter(endpoints[1:]), None)
    if not arguments:
        raise InputError("got no pairs, need PAIRS with labels to judge on")
    roles = _Roles(judged, baseline, tuple(arguments))
    _require_consistent(options, roles)
    return roles


def _require_consistent(options: Options, roles: _Roles) -> None:
    """Refuse options that need another one, or a bundle in place of an endpoint."""
    if options.gate and any(map(_is_endpoint, filter(None, (roles.judged, roles.baseline)))):
        raise InputError("got --gate with an endpoint, need two bundles: nobody knows what an endpoint was trained on")
    if options.gate and not roles.baseline:
        raise InputError("--gate needs --baseline BUNDLE to compare with")
    if options.ledger and not options.gate:
        raise InputError("--ledger needs --gate, which records in it")
    if options.prior is not None and _is_endpoint(roles.judged):
        raise InputError("got --prior with an endpoint, need a bundle to judge: an endpoint has no calibration here")
    if not roles.bundles and (options.device, options.precision, options.verify_key) != ("auto", "auto", None):
        given = "--device, --precision or --verify-key"
        raise InputError(f"got {given} without a bundle, need none: an endpoint decides by itself")


def _opened(argument: str, options: Options, *, runtime: "Runtime | None" = None) -> "Judged":
    """Return the loaded bundle, or the endpoint once it has answered."""
    if not _is_endpoint(argument):
        from simile.scoring import load

        return load(
            argument, device=options.device, precision=options.precision, runtime=runtime, verify_key=options.verify_key
        )
    from evaluation.judged import evaluated_endpoint
    from simile.client.endpoint import connect

    endpoint = connect(argument, os.environ)
    say(f"{endpoint.name}: {evaluated_endpoint(endpoint).description}")
    return endpoint


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


def remember_evaluation(bundle: Bundle, report: BundleReport) -> None:
    """Add the report to the bundle and its model card, in place of one of the same sets, baseline and runtime.

    A report without a verdict replaces none with a verdict. The oldest ones beyond `_MOST_REPORTS` are removed, first
    those without a verdict. A bundle that cannot be written to (a read-only volume) stays as it is, with a message.
    """

    def key(stored: BundleReport) -> tuple[object, ...]:
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
