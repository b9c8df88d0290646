"""What each command does: arguments -> stages -> lines on stdout."""

import json
import os
import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from simile.errors import InputError

_GATE_SAID_NO = 3


def quickstart(args: Namespace) -> int:
    """The whole path on the embedded sample."""
    from pipeline.embedded import examples_folder

    config = examples_folder() / "helpdesk" / "run.yaml"
    overrides = [f"out={json.dumps(str(args.out))}", *args.set]
    return _run(config, overrides, restart=args.restart)


def run(args: Namespace) -> int:
    """The whole path on one's own data."""
    from pipeline.embedded import recipe_path

    return _run(recipe_path(args.config), args.set, restart=args.restart)


def _run(path: Path, overrides: Sequence[str], *, restart: bool) -> int:
    from pipeline.run import run as run_stages
    from pipeline.run_config import read_run_config
    from pipeline.table import result_table

    config = read_run_config(path, overrides)
    evaluation = run_stages(config, restart=restart)
    passed = evaluation.report["verdict"] == "pass"
    # As it can be typed: in a checkout the command lies in .venv/bin, which may not be on the path.
    command = "simile" if shutil.which("simile") else shlex.quote(sys.argv[0])
    serve = f"{command} serve {shlex.quote(str(config.out))}/bundle"
    _print(
        "",
        result_table(evaluation.report),
        "",
        f"gate      {_verdict(evaluation.report)}",
        f"report    {config.out / 'report.html'}",
        f"bundle    {config.out / 'bundle'}",
        "",
        f"next: {serve}" if passed else "next: read the report; more documents, pairs or groups narrow the interval",
    )
    return 0 if passed else _GATE_SAID_NO


def baseline(args: Namespace) -> int:
    """An untouched encoder as a bundle."""
    from training.baseline import make_baseline

    bundle = make_baseline(
        args.model, args.out, prompt=args.prompt, max_length=args.max_length, matryoshka=args.matryoshka
    )
    _print(bundle.identity)
    return 0


def mine(args: Namespace) -> int:
    """Documents to pairs."""
    from mining.config import MineConfig
    from pipeline.config import validate
    from pipeline.mine import MineInputs, mine_to
    from pipeline.table import mined_table
    from simile.scoring import load

    given = {name: value for name in MineConfig.model_fields if (value := getattr(args, name)) is not None}
    report = mine_to(
        args.out,
        MineInputs(args.documents, _columns(args.column), args.target, args.held_out, args.positives),
        validate(MineConfig, given, "simile mine"),
        load(args.baseline) if args.baseline else None,
    )
    _print(mined_table(report), *(f"note: {text}" for text in report.warnings))
    _print(f"report    {args.out / 'report.html'}")
    return 0


def train(args: Namespace) -> int:
    """Pairs to a bundle."""
    from pipeline.presets import read_train_config
    from simile.artifacts import named_pair_paths, read_labelled_pairs

    config = read_train_config(args.config, args.set)
    files = [read_labelled_pairs(path) for path in args.pairs]
    dev_sets = [read_labelled_pairs(path, name=name) for name, path in named_pair_paths(args.dev).items()]
    calibration_sets = [read_labelled_pairs(path) for path in args.calibrate]
    # Only now: a bad config or bad pairs are known before torch has loaded.
    from training.train import train as train_member

    bundle = train_member(config, files, dev_sets, args.out, calibration_sets=calibration_sets, restart=args.restart)
    _print(bundle.identity)
    return 0


def evaluate(args: Namespace) -> int:
    """A bundle's figures and the gate's verdict."""
    from evaluation.evaluate import Gate
    from evaluation.evaluate import evaluate as evaluate_bundle
    from evaluation.report import to_page
    from pipeline.evaluations import remember_evaluation
    from pipeline.table import result_table
    from pipeline.training_report import training_blocks
    from simile.artifacts import named_pair_paths, read_bundle, read_labelled_pairs, read_training_texts
    from simile.files import write_whole
    from simile.scoring import Scorer, load

    if args.gate and not args.baseline:
        raise InputError("--gate needs --baseline BUNDLE to compare with")
    _require_no_folder(args.json, args.html)
    named = named_pair_paths([*args.pairs, *args.guard])
    judged = [read_labelled_pairs(path, name=name) for name, path in named.items()]
    sets, guards = judged[: len(args.pairs)], judged[len(args.pairs) :]
    scorer = load(args.bundle, device=args.device, precision=args.precision)
    found = evaluate_bundle(
        scorer,
        sets,
        # Both on the same runtime: a difference then says something about the weights only.
        baseline=Scorer(read_bundle(args.baseline), scorer.runtime) if args.baseline else None,
        guards=guards,
        gate=Gate(args.guard_margin) if args.gate else None,
        training_texts=read_training_texts(scorer.bundle),
        prior=args.prior,
    )
    if args.json:
        write_whole(args.json, json.dumps(found.report, indent=2) + "\n")
    if args.html:
        write_whole(args.html, to_page(found, judged, extra=training_blocks(args.bundle)))
    remember_evaluation(scorer.bundle, found.report)
    _print(result_table(found.report))
    if args.gate:
        _print(f"gate: {_verdict(found.report)}")
    return _GATE_SAID_NO if found.report["verdict"] == "fail" else 0


def join(args: Namespace) -> int:
    """Several bundles to one."""
    from pipeline.join import join as join_bundles
    from simile.artifacts import read_labelled_pairs

    if args.calibration and not args.fit:
        raise InputError("--calibration needs --fit PAIRS to fit it on")
    fit = read_labelled_pairs(args.fit) if args.fit else None
    bundle = join_bundles(args.bundles, args.out, fit, calibration=args.calibration or "platt")
    _print(bundle.identity)
    for name, weight in bundle.manifest.combine.weights.items():
        _print(f"{weight:.4f}  {name}")
    return 0


def score(args: Namespace) -> int:
    """Scores of two texts or of a file of pairs, and probabilities where the bundle is calibrated."""
    from pipeline.score import score_by_bundle, score_by_server
    from simile.artifacts import read_pairs
    from simile.files import write_whole

    bundle, texts = _bundle_and_texts(args)
    if bool(args.pairs) == bool(texts) or len(texts) not in (0, 2):
        raise InputError(f"got {len(texts)} texts, need two texts or --pairs FILE")
    if any(not text.strip() for text in texts):
        raise InputError("got an empty text, need two non-empty ones")
    _require_no_folder(args.out)
    pairs = read_pairs(args.pairs).texts if args.pairs else ((texts[0], texts[1]),)
    found = (
        score_by_server(args.url, pairs)
        if bundle is None
        else score_by_bundle(bundle, pairs, device=args.device, precision=args.precision, prior=args.prior)
    )
    rows = [dict(zip(found, map(float, row), strict=True)) for row in zip(*found.values(), strict=True)]
    if args.out:
        lines = (json.dumps({"text_a": a, "text_b": b, **row}) + "\n" for (a, b), row in zip(pairs, rows, strict=True))
        write_whole(args.out, "".join(lines))
    else:
        _print(*("\t".join(f"{value:.6f}" for value in row.values()) for row in rows))
    return 0


def _bundle_and_texts(args: Namespace) -> tuple[str | None, list[str]]:
    """Return the arguments of `score` by what they are: with --url, the first one is a text as well."""
    texts = [] if args.bundle is None else [args.bundle, *args.texts]
    if args.url is None:
        if not texts:
            raise InputError("got no bundle, need BUNDLE or --url URL")
        return texts[0], texts[1:]
    if len(texts) == 3 or (texts and args.pairs):
        raise InputError("got BUNDLE and --url, need one of them")
    if (args.device, args.precision, args.prior) != ("auto", "auto", None):
        raise InputError("got --device, --precision or --prior together with --url, where the server decides")
    return None, texts


def serve(args: Namespace) -> int:
    """The bundle over HTTP."""
    from serving.server import run as run_server
    from serving.settings import ENVIRONMENT_ONLY, Settings

    options = {name: getattr(args, name) for name in Settings.model_fields if name not in ENVIRONMENT_ONLY}
    return run_server(args.bundle, Settings.resolve(options, os.environ))


def push(args: Namespace) -> int:
    """A bundle into a bucket."""
    from simile.artifacts.bucket import push_bundle

    _print(push_bundle(args.bundle, args.url))
    return 0


def pull(args: Namespace) -> int:
    """A bundle out of a bucket."""
    from simile.artifacts.bucket import pull_bundle

    _print(pull_bundle(args.url, args.out))
    return 0


def inspect(args: Namespace) -> int:
    """What a bundle is."""
    from pipeline.table import calibration_told, text_table
    from simile.artifacts import EncoderMember, read_bundle
    from simile.scoring import evaluated_runtimes

    bundle = read_bundle(args.bundle)
    manifest = bundle.manifest
    if args.json:
        _print(json.dumps({"digest": manifest.digest, **manifest.model_dump(mode="json")}, indent=2))
        return 0
    rows = []
    for member in manifest.members:
        size = sum(file.size_bytes for file in member.files)
        rows.append(
            [
                member.name,
                f"{manifest.combine.weights[member.name]:.4f}",
                member.base if isinstance(member, EncoderMember) else "TF-IDF",
                str(member.dimension),
                str(member.max_length) if isinstance(member, EncoderMember) else "-",
                f"{size / 2**20:.1f} MiB",
            ]
        )
    evaluated = ", ".join(map(str, evaluated_runtimes(bundle))) or "not yet"
    thresholds = manifest.thresholds
    _print(
        f"{bundle.identity}",
        "",
        text_table(("member", "weight", "base", "dimension", "tokens", "files"), rows),
        "",
        f"combine      {manifest.combine.method}",
        f"thresholds   best F1 at {thresholds.best_f1:.4f}" if thresholds else "thresholds   none",
        f"calibration  {calibration_told(manifest.calibration)}",
        f"evaluated    {evaluated}",
        f"made         {manifest.made.by}",
        "verified     every file has the sha256 of the manifest",
    )
    return 0


def _require_no_folder(*files: Path | None) -> None:
    """Refuse a folder where a file is to be written, before the work that would be lost."""
    for file in files:
        if file and file.is_dir():
            raise InputError(f"{file}: is a folder, need a file to write to")


def _columns(arguments: Sequence[str]) -> dict[str, str]:
    columns = {}
    for argument in arguments:
        ours, separator, theirs = argument.partition("=")
        if not separator or not ours or not theirs:
            raise InputError(f"--column {argument}: need OURS=THEIRS, e.g. text=body")
        columns[ours] = theirs
    return columns


def _verdict(report: dict[str, object]) -> str:
    reasons = report["reasons"]
    assert isinstance(reasons, list), "reasons are always a list"
    return f"{report['verdict']} ({'; '.join(map(str, reasons))})"


def _print(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
