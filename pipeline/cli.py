"""The `simile` command line: collects the commands, and maps how each one ends to an exit code.

A command's module is imported when it is called: `simile --help` and `simile serve` never load torch.
"""

import difflib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from types import FrameType
from typing import NoReturn

from pipeline.commands import SUMMARIES
from simile import version
from simile.errors import InputError, SimileError, StoppedError
from simile.files import FULL_DISK
from simile.hardware import bound_library_threads
from simile.progress import visible


class _Terminated(BaseException):
    """SIGTERM arrived. This is no `Exception`: nothing on the way may handle it as an error of its own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code (0 done, 2 bad input, 3 the gate failed, 75 stopped but resumable)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # torchrun sets both.
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        from training.processes import run_together

        return run_together(partial(_run, arguments))
    return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    """Run one command, and map how it ends to its exit code."""
    try:
        bound_library_threads()
        if arguments[:1] == ["serve"]:
            _hold_sighup()
        command = _read_command(arguments)
        # The server drains at SIGTERM by itself, and only the main thread may handle signals.
        is_ended = arguments[0] != "serve" and threading.current_thread() is threading.main_thread()
        with _ending_on_sigterm() if is_ended else nullcontext():
            code = command()
        # Here a full disk can still be reported; at the exit of the process it cannot.
        sys.stdout.flush()
        return code
    except SimileError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        return _failed_file(error)
    except ModuleNotFoundError as error:
        return _fail(_missing_extra(error, arguments[0]), InputError.exit_code)
    except _Terminated:
        return _fail("stopped by SIGTERM; run the same command to resume", StoppedError.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; run the same command to resume", 130)


def _read_command(arguments: Sequence[str]) -> Callable[[], int]:
    """Return the call that the command line asks for."""
    name = arguments[0] if arguments else None
    if name in ("--help", "-h"):
        return partial(_print, _help())
    if name == "--version":
        commit = version.commit()
        return partial(_print, f"simile {version.__version__}" + (f" ({commit})" if commit else ""))
    # A command has one word or two.
    typed = next((words for count in (2, 1) if (words := " ".join(arguments[:count])) in SUMMARIES), None)
    if typed is None:
        raise InputError(f"{_unknown(name, ' '.join(arguments[:2]))} (see simile --help)")
    from pipeline.usage import parse

    return parse(typed, arguments[len(typed.split()) :])


def _unknown(name: str | None, two_words: str) -> str:
    """Return which command is unknown, and which are known."""
    if known := [command for command in SUMMARIES if command.startswith(f"{name} ")]:
        return f"got {two_words!r}, need one of {', '.join(known)}"
    kind = "option" if name and name.startswith("-") else "command"
    got = f"unknown {kind} {name!r}, " if name else ""
    near = difflib.get_close_matches(name or "", SUMMARIES, n=1)
    return got + (f"did you mean {near[0]!r}?" if near else f"need one of {', '.join(SUMMARIES)}")


def _help() -> str:
    # Printed without Cyclopts, which takes 0.4 s for the same list; this takes 0.05 s.
    width = max(map(len, SUMMARIES))
    commands = "\n".join(f"  {name:{width}}  {summary}" for name, summary in SUMMARIES.items())
    return f"""Usage: simile COMMAND

Text-pair similarity trained on pairs as hard as the test.

Commands:
{commands}

Options:
  {"--help":{width}}  Show this list; after a command, its options
  {"--version":{width}}  Show the version"""


def _failed_file(error: OSError) -> int:
    """Report an error of the file system, and return its exit code."""
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has left; there is nobody to tell.
        _drop_output()
        return 0
    # A rename names two files, of which the second is the user's.
    path = error.filename2 or error.filename
    if error.errno in FULL_DISK:
        if path is None:
            # What could not be printed would be tried again, and fail again, at the exit of the process.
            _drop_output()
        where = f" ({path})" if path else ""
        return _fail(f"the disk is full{where}; free some space, then run the same command", StoppedError.exit_code)
    return _fail(f"{path}: {error.strerror}" if path else str(error), InputError.exit_code)


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(text: str) -> int:
    sys.stdout.write(f"{text}\n")
    return 0


def _missing_extra(error: ModuleNotFoundError, command: str) -> str:
    """Return which extra brings the package that is not installed; raise the error again for a package of ours."""
    package = str(error.name).partition(".")[0]
    if package in ("simile", "mining", "training", "evaluation", "labelling", "serving", "pipeline"):
        raise error
    serving = dict.fromkeys(("embed", "inspect", "score", "serve"), "serve-cpu")
    labelling = dict.fromkeys(("sample", "label", "labels"), "label")
    extras = (serving | labelling | {"evaluate": "evaluate"}).get(command, "train,serve-cpu")
    if package == "httpx2":
        extras = "client"
    # Of the packages of bulk work and of buckets, each has an extra of its own.
    extras = {"pyarrow": "bulk", "ray": "ray", "fsspec": "s3", "s3fs": "s3", "aiohttp": "s3"}.get(package, extras)
    if command in ("push", "pull"):
        extras = "oci" if package in ("oras", "requests") else "s3"
    return f"{command} needs the package {package}, which is not installed: pip install 'simile-pairs[{extras}]'"


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Unwind at SIGTERM as at Ctrl-C, so that half-written folders are removed; training ends its step first."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        # A second one must not interrupt the unwinding.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Terminated

    earlier = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _hold_sighup() -> None:
    """Ignore SIGHUP until the service handles it: what it would load again has not been read yet."""
    if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"simile: {visible(' '.join(message.split()))}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
