"""All stages in one call: baseline, mining, training, joining, evaluation. Finished stages are skipped."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

from mining.matching.target import check_target
from pipeline.columns import read, read_labelled, require_columns_of
from pipeline.commands import evaluate
from pipeline.commands.join import join
from pipeline.commands.mine import MineFiles, mine_to
from pipeline.engines import TrainMembers, local
from pipeline.members import Members, member_paths, mined_sets, training_files
from pipeline.options import TableOptions
from pipeline.run_config import RunConfig
from simile import artifacts
from simile.artifacts import EvaluationReport, PairSet, source_sha256
from simile.artifacts.json_file import read_model
from simile.artifacts.strict import StrictModel
from simile.errors import InputError
from simile.files import alone, remove, sweep, write_whole
from simile.progress import say
from simile.version import __version__, commit
from training.work import Work

_DEV_SETS, _TEST_SETS = ("dev-seen", "dev-unseen"), ("test-seen", "test-unseen")
_RESULTS = (
    *(f"{stage}{suffix}" for stage in ("baseline", "mined", "bundle") for suffix in ("", ".inputs.json")),
    *("bundle.weights", "bundle.work", "members", "report.html", "report.json"),
)
"""Everything that a run writes into its folder."""


def run(config: RunConfig, *, restart: bool = False, train_members: TrainMembers = local.train) -> EvaluationReport:
    """Run all stages and return the evaluation of the bundle; ``train_members`` is an engine's.

    Writes ``baseline``, ``mined``, ``bundle``, ``report.html`` and ``report.json`` into ``config.out``. The baseline is
    the untouched base of the first member. Several members are trained in ``members`` and joined: the bundle's score is
    the mean of theirs.

    Raises:
        InputError: the config, the data or the output folder cannot be used.
        StoppedError: a stage was stopped, and the same call resumes it; or another process runs in ``config.out``.
    """
    from training.tracking import require_trackers

    given = _read_given(config)
    require_trackers()
    # The lock lies in the folder, because the folder may be a volume that nothing can be put beside.
    with alone(config.out / "run"):
        return _run_stages(config, given, train_members, restart=restart)


def _run_stages(config: RunConfig, given: "_Given", train_members: TrainMembers, *, restart: bool) -> EvaluationReport:
    for name in _RESULTS:
        sweep(config.out / name)
    if restart:
        _remove_results(config.out)
    _require_same_run(config)
    say("[1/4] baseline: the untouched encoder as a bundle")
    _make_baseline(config)
    say("[2/4] mining: pairs as hard as the test")
    if config.documents:
        _mine(config, config.documents)
    tests = given.test or tuple(mined_sets(config, _TEST_SETS))
    if not tests:
        raise InputError(f"{config.out}: mining held out no pairs to judge on, need more documents or 'test' pairs")
    say("[3/4] training")
    _train(config, given, train_members)
    say("[4/4] evaluation against the baseline, on pairs by which nothing was chosen")
    return _judge(config, tests, given.guard)


class _Given(NamedTuple):
    """Pairs that the config names, read before the first stage: an error in them must not wait for the last."""

    dev: Sequence[PairSet]
    test: Sequence[PairSet]
    guard: Sequence[PairSet]
    calibration: Sequence[PairSet]
    """Labelled pairs like those to be scored, without a text that is trained on."""


def _read_given(config: RunConfig) -> _Given:
    require_columns_of(config.columns, "documents", "pairs")
    artifacts.named_pair_paths([*map(str, config.test), *map(str, config.guard)])
    for path in (config.documents, config.target, config.positives):
        if path and not (path.is_file() or path.is_dir()):
            raise InputError(f"{path}: no such file")
    if config.pairs:
        training_files(config)
    target = read(config.target, config) if config.target else None
    if target and not config.pairs:
        check_target(target)
    elif config.target and target and target.is_labelled:
        artifacts.require_labels(target, config.target)
    dev, test, guard, calibration = (
        read_labelled(paths, config) for paths in (config.dev, config.test, config.guard, config.calibrate)
    )
    # A labelled target is the dev set that is most like the pairs to be scored, and none of its texts is trained on.
    labelled = [target] if target and target.is_labelled else []
    own = labelled if config.target not in config.dev else []
    paths = [*([config.target] if own else []), *config.dev]
    artifacts.named_pair_paths([*map(str, paths), *(_DEV_SETS if config.documents else ())])
    others = [] if config.target in config.calibrate else labelled
    return _Given([*own, *dev], test, guard, _with_target(calibration, others))


def _with_target(calibration: Sequence[PairSet], labelled: Sequence[PairSet]) -> Sequence[PairSet]:
    """Return the pairs to calibrate on: with the labelled target where the config names too few others.

    Mined dev pairs would come next. They are not like the pairs to be scored, and half of them are positive.
    """
    num, need = sum(len(one.rows) for one in calibration), artifacts.MIN_CALIBRATION_PAIRS
    if num >= need:
        return calibration
    if calibration and labelled:
        say(f"note: 'calibrate' has {num} pairs, need {need}: calibration is fitted on them and on the target")
    return [*calibration, *labelled]


def _remove_results(out: Path) -> None:
    """Remove what earlier runs wrote; whatever else is in the folder stays."""
    results = [out / name for name in _RESULTS]
    existing = [path for path in results if path.exists()]
    if existing and not (out / "baseline.inputs.json").is_file():
        raise InputError(f"{existing[0]}: exists, but no run wrote it; need an output folder without it")
    for path in results:
        remove(path)


def _make_baseline(config: RunConfig) -> None:
    from training.baseline import make_baseline
    from training.torch_encoder import fingerprint

    out, member = config.out / "baseline", config.train[0]
    inputs = member.model_dump(mode="json", include={"base", "revision", "max_length"}) | {"prompts": [*member.prompts]}
    base = f"{member.base}@{member.revision}" if member.revision else member.base
    _stage(
        out,
        inputs | {"files": fingerprint(member.base)},
        lambda: make_baseline(base, out, prompts=member.prompts, max_length=member.max_length),
    )


def _mine(config: RunConfig, documents: Path) -> None:
    # Own test pairs are what the run is judged on: no document is held out to stand beside them.
    mine_config = config.mine.model_copy(update={"test_share": 0.0}) if config.test else config.mine
    files = MineFiles(
        documents=documents,
        out=config.out / "mined",
        target=config.target,
        held_out=(*config.dev, *config.calibrate, *config.test, *config.guard),
        positives=config.positives,
        baseline=config.out / "baseline",
    )
    inputs = {
        "mine": mine_config.model_dump(mode="json"),
        "columns": config.columns,
        "reading": config.model_dump(mode="json", include=set(TableOptions.model_fields)),
        "documents": source_sha256(documents),
        "target": source_sha256(config.target) if config.target else None,
        "positives": source_sha256(config.positives) if config.positives else None,
        "held out": [source_sha256(path) for path in files.held_out],
        "baseline": artifacts.read_bundle(config.out / "baseline").manifest.digest,
    }
    _stage(files.out, inputs, lambda: mine_to(files, mine_config, config))


def _require_same_run(config: RunConfig) -> None:
    """Refuse the folder of a run that has begun with other members or settings, before a stage is repeated for them.

    An ensemble's folder and that of a single member do not replace each other. Stages of another version of Simile are
    refused as well: the run would be one of both. The commit does not decide, because a developer's checkout has many.
    """
    for stage in ("baseline", "mined", "bundle"):
        made = _read_stamp(config.out / stage)
        if made and made.version != __version__:
            got = f"{config.out / stage}: made by Simile {made.version}, this is {__version__}"
            raise InputError(f"{got}; need --restart to make everything anew, or the earlier version to continue")
    bundle, num = config.out / "bundle", len(config.train)
    is_joined = bundle.with_name("bundle.inputs.json").is_file()
    if (num > 1 and Work(bundle).is_begun) or (num == 1 and is_joined):
        members = "several members" if is_joined else "one member"
        raise InputError(
            f"{bundle}: comes from a run with {members}, need --restart to replace it by {num}, or another 'out'"
        )
    for member, path in zip(config.train, member_paths(config), strict=True):
        if (work := Work(path)).is_begun:
            from training.inputs import TrainingInputs

            work.require_same(TrainingInputs(member).facts, settings_only=True)


def _train(config: RunConfig, given: _Given, train_members: TrainMembers) -> None:
    """Train the members on the same pairs, and join several."""
    paths, bundle = member_paths(config), config.out / "bundle"
    dev_sets = [*given.dev, *mined_sets(config, _DEV_SETS)]
    train_members(Members(config, dev_sets, given.calibration))
    if len(paths) > 1:
        say("      joining them: the mean of their scores")
        method = config.train[0].calibration
        inputs = {
            "members": [artifacts.read_bundle(path).manifest.digest for path in paths],
            "dev": {dev.name: dev.sha256 for dev in dev_sets},
            "calibrated on": [pairs.sha256 for pairs in given.calibration],
            "calibration": method,
        }
        _stage(
            bundle,
            inputs,
            lambda: join(paths, bundle, dev_sets=dev_sets, calibration_sets=given.calibration, calibration=method),
        )


class _Stamp(StrictModel):
    """What a stage was made from, and by which code."""

    version: str
    commit: str | None
    inputs: dict[str, JsonValue]


def _stamp_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.inputs.json")


def _read_stamp(folder: Path) -> _Stamp | None:
    """Return the stamp of a stage's folder, or None without one that can be read: then the stage is made anew."""
    with suppress(FileNotFoundError, InputError):
        return read_model(_stamp_file(folder), _Stamp, "need a stamp")
    return None


def _stage(folder: Path, inputs: dict[str, Any], make: Callable[[], object]) -> None:
    """Run the stage, unless its folder exists and was made from the same inputs."""
    stamp = _Stamp(version=__version__, commit=commit(), inputs=inputs)
    earlier = _read_stamp(folder)
    if folder.is_dir() and earlier and earlier.inputs == stamp.inputs:
        other = "" if earlier.commit == stamp.commit else f" (made at commit {earlier.commit}, this is {stamp.commit})"
        say(f"      {folder} is there already{other}")
        return
    if folder.is_dir():
        say(f"      {folder} was made from other inputs or not to its end, so it is made anew")
    remove(_stamp_file(folder))
    make()
    write_whole(_stamp_file(folder), stamp.model_dump_json(indent=2) + "\n")


def _judge(config: RunConfig, sets: Sequence[PairSet], guards: Sequence[PairSet]) -> EvaluationReport:
    out, paths = config.out, member_paths(config)
    options = evaluate.Options(
        bundle=str(out / "bundle"),
        pairs=tuple(pairs.name for pairs in sets),
        baseline=str(out / "baseline"),
        gate=True,
        guard_margin=config.guard_margin,
        allow_undecided_guards=config.allow_undecided_guards,
        ledger=config.ledger,
        json_file=out / "report.json",
        html=out / "report.html",
    )
    trainings = {f"Training: {path.name}" if len(paths) > 1 else "Training": path for path in paths}
    return evaluate.judge(options, sets, guards, trainings)
