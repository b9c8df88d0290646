"""The `simile` command line: what can be asked, and how each outcome ends.

Each command's code is imported when it is called: `simile --help` and `simile serve` never load torch.
"""

import argparse
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pipeline.embedded import PRESETS, recipes
from simile.errors import InputError, SimileError, StoppedError
from simile.version import __version__

_ROOMS = ("simile", "mining", "training", "evaluation", "serving", "pipeline")

Options = Callable[[argparse.ArgumentParser], None]


class _Terminated(BaseException):
    """SIGTERM came. No `Exception`: nothing on the way may take it for an error of its own."""


class _Parser(argparse.ArgumentParser):
    """Usage errors are one line, like every other error of bad input."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code (0 done, 2 bad input, 3 the gate said no, 75 stopped but resumable)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parser(arguments).parse_args(arguments)
        with nullcontext() if args.command == "serve" else _ending_on_sigterm():
            return int(_command(args.command)(args))
    except SimileError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            where = f" ({error.filename})" if error.filename else ""
            return _fail(f"the disk is full{where}; make room, the same command goes on", StoppedError.exit_code)
        if isinstance(error, BrokenPipeError):
            # Whoever read our output has left; there is nobody to tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if error.errno == errno.EROFS or isinstance(
            error, (PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
        ):
            # A rename names two files, of which the second is the user's.
            return _fail(f"{error.filename2 or error.filename}: {error.strerror}", InputError.exit_code)
        raise
    except ModuleNotFoundError as error:
        return _fail(_missing_extra(error, arguments[0]), InputError.exit_code)
    except _Terminated:
        return _fail("stopped by SIGTERM; the same command goes on", StoppedError.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on", 130)


def _missing_extra(error: ModuleNotFoundError, command: str) -> str:
    """Return which extra brings the package that is not installed.

    Raises:
        ModuleNotFoundError: the package is one of ours.
    """
    package = str(error.name).partition(".")[0]
    if package in _ROOMS:
        raise error
    extras = "serve-cpu" if command in ("inspect", "score", "serve") else "train,serve-cpu"
    if package == "httpx2":
        extras = "client"
    if command in ("push", "pull"):
        extras = "s3"
    return (
        f"{command} needs the package {package}, which is not installed (simile[{extras}], from where you have Simile)"
    )


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Unwind at SIGTERM as at Ctrl-C, so that half-written folders are removed; training ends its step first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise _Terminated

    earlier = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"simile: {' '.join(message.split())}\n")
    return code


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    from pipeline import commands

    command: Callable[[argparse.Namespace], int] = getattr(commands, name)
    return command


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="simile", description="Text-pair similarity trained on pairs as hard as the test.")
    parser.add_argument("--version", action="version", version=f"simile {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, (help_text, add_options) in _COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
        # The options of `serve` are the service's settings: read only when they are asked for.
        if name in arguments:
            add_options(command)
    return parser


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG.yaml", help=f"a file, or a recipe by name ({', '.join(recipes())})")
    _set_option(parser)
    _restart_option(parser)


def _quickstart_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("quickstart"), help="folder of all results (default: %(default)s)"
    )
    _set_option(parser)
    _restart_option(parser)


def _baseline_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="NAME or NAME@REVISION of the hub, a folder, bundled:minilm, or lexical:DOCUMENTS",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE")
    parser.add_argument("--prompt", default="", help="put before every text")
    parser.add_argument("--max-length", type=int, help="tokens a text (default: the encoder's own)")
    parser.add_argument(
        "--matryoshka",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="dimensions that its embeddings may be cut to: it was trained so",
    )


def _mine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "documents", type=Path, metavar="DOCUMENTS", help="JSONL, JSON, CSV, TSV or Parquet, .gz as it is"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--target", type=Path, metavar="PAIRS", help="pairs as hard as which to mine; their texts are kept out"
    )
    parser.add_argument(
        "--held-out",
        type=Path,
        action="append",
        default=[],
        metavar="PAIRS",
        help="more pairs whose texts are kept out",
    )
    parser.add_argument(
        "--positives", type=Path, metavar="PAIRS", help="pairs known to mean the same, in place of the groups"
    )
    parser.add_argument("--recipe", choices=("matched", "bands", "curriculum"), help="(default: matched)")
    parser.add_argument("--pairs", type=int, metavar="N", help="training pairs wanted (default: 10000)")
    parser.add_argument(
        "--allow-fewer", action="store_const", const=True, help="write what there is where that is fewer"
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="BUNDLE",
        help="follow its scores on the target, and find false negatives by it",
    )
    for name, of in (("band", "matched pairs"), ("positive-band", "recipe bands"), ("negative-band", "recipe bands")):
        parser.add_argument(f"--{name}", type=float, nargs=2, metavar=("LOW", "HIGH"), help=f"TF-IDF cosines of {of}")
    parser.add_argument("--same-category", type=float, metavar="SHARE", help="of the negatives (default: 0.7)")
    parser.add_argument(
        "--false-negatives",
        choices=("drop", "keep", "report"),
        help="negatives that the baseline scores above their texts' own positives (default: drop)",
    )
    parser.add_argument(
        "--format", choices=("pairs", "triplets"), help="triplets: also anchor, positive, negative for ranking losses"
    )
    parser.add_argument("--dev-share", type=float, help="held out to watch training by (default: 0.05)")
    parser.add_argument("--test-share", type=float, help="held out to judge by (default: 0)")
    parser.add_argument("--max-uses", type=int, help="pairs of one class a text may be in (default: 20)")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--column", action="append", default=[], metavar="OURS=THEIRS", help="e.g. text=body")


def _train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG.yaml", help=f"a file, or a preset by name ({', '.join(PRESETS)})")
    parser.add_argument(
        "--pairs",
        type=Path,
        action="append",
        required=True,
        metavar="PAIRS",
        help="to train on; several are trained on one after the other (a curriculum)",
    )
    parser.add_argument(
        "--dev", action="append", default=[], metavar="PAIRS", help="labelled pairs to choose the best epoch by"
    )
    parser.add_argument(
        "--calibrate",
        type=Path,
        action="append",
        default=[],
        metavar="PAIRS",
        help="labelled pairs like those to be scored, to fit calibration and thresholds on (default: the dev pairs)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE")
    _set_option(parser)
    _restart_option(parser)


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("pairs", nargs="+", metavar="PAIRS", help="labelled pairs, or NAME=PATH")
    parser.add_argument("--baseline", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "--guard", action="append", default=[], metavar="PAIRS", help="pairs on which nothing may be lost"
    )
    parser.add_argument("--gate", action="store_true", help="exit 3 unless every gain is sure and no guard is lost")
    parser.add_argument("--guard-margin", type=float, default=0.01)
    _prior_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--html", type=Path, metavar="FILE")
    _runtime_options(parser)


def _join_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE")
    parser.add_argument(
        "--fit",
        type=Path,
        metavar="PAIRS",
        help="learn the members' weights on these, and calibration and thresholds (default: their mean, without)",
    )
    parser.add_argument(
        "--calibration",
        choices=("platt", "isotonic"),
        help="the curve that --fit gives, logistic or any that rises (default: platt)",
    )


def _score_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", nargs="?", metavar="BUNDLE", help="a bundle, unless there is --url")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="two texts")
    parser.add_argument(
        "--url", metavar="URL", help="let this server score, with the key in SIMILE_API_KEY where it wants one"
    )
    parser.add_argument("--pairs", type=Path, metavar="FILE", help="a file of pairs in place of two texts")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the pairs with their scores as JSONL")
    _prior_option(parser)
    _runtime_options(parser)


def _serve_options(parser: argparse.ArgumentParser) -> None:
    from serving.settings import ENVIRONMENT_ONLY, ENVIRONMENT_PREFIX, Settings

    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    for name, field in Settings.model_fields.items():
        if name in ENVIRONMENT_ONLY:
            continue
        default = "none" if field.default in (None, ()) else field.default
        help_text = f"{field.description} (default: {default}; {ENVIRONMENT_PREFIX}{name.upper()})"
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar=name.upper(), help=help_text)


def _inspect_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--json", action="store_true", help="the manifest and the digest, for machines")


def _push_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("url", metavar="URL", help="s3://BUCKET/FOLDER; the digest is added to it")


def _pull_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="what push printed: s3://BUCKET/FOLDER/DIGEST")
    parser.add_argument("out", type=Path, metavar="DIR", help="where the bundle is to lie")


def _set_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting of the config"
    )


def _restart_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--restart", action="store_true", help="throw an earlier run's work away")


def _prior_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prior",
        type=float,
        metavar="SHARE",
        help="share of positives that probabilities assume (default: the calibration's own)",
    )


def _runtime_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")


_COMMANDS: dict[str, tuple[str, Options]] = {
    "quickstart": ("the whole path on the embedded sample, a few minutes on 2 CPU cores", _quickstart_options),
    "run": ("the whole path for your own data; finished stages are skipped", _run_options),
    "baseline": ("make an untouched encoder a bundle", _baseline_options),
    "mine": ("mine pairs as hard as the test from documents", _mine_options),
    "train": ("train on pairs and write a bundle", _train_options),
    "evaluate": ("judge a bundle on labelled pairs", _evaluate_options),
    "join": ("put the members of several bundles in one ensemble", _join_options),
    "score": ("score two texts, or a file of pairs", _score_options),
    "serve": ("serve a bundle over HTTP", _serve_options),
    "inspect": ("verify a bundle and describe it", _inspect_options),
    "push": ("put a bundle into a bucket, under its digest", _push_options),
    "pull": ("fetch a bundle from a bucket, verified", _pull_options),
}


if __name__ == "__main__":
    sys.exit(main())
