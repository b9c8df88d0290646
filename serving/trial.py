"""Loading that can be given up: a trial in a process that is killed, a load in a thread that is abandoned."""

import asyncio
import os
import signal
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from serving.settings import Settings
from simile.errors import BundleError, InputError

_T = TypeVar("_T")
LOADING_THREAD = "loading"
"""The name of a thread that loads a bundle."""
_REAP_S = 1.0
"""Seconds to wait for a killed process: one that waits for a volume does not end before the volume answers."""


async def try_bundle(path: str | Path, settings: Settings) -> str:
    """Return the bundle's digest once another process has loaded it and reproduced its golden pairs.

    That process is killed after ``load_s``, and when the caller is cancelled.

    Raises:
        BundleError: the bundle cannot be served here.
    """
    # Python imports the same code there as here, and nothing from the working folder.
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(folder or os.getcwd() for folder in sys.path)}
    arguments = [str(path), settings.device, settings.precision]
    if settings.verify_key is not None:
        arguments.append(str(settings.verify_key))
    command = (sys.executable, "-P", "-m", "simile.scoring.trial", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=environ)
    try:
        async with asyncio.timeout(settings.load_s):
            digest, errors = await process.communicate()
    except TimeoutError as error:
        raise BundleError(f"{path}: was not loaded and tried within {settings.load_s:g} s (--load-s)") from error
    finally:
        if process.returncode is None:
            process.kill()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.communicate(), _REAP_S)
    if not process.returncode:
        return digest.decode()
    lines = errors.decode(errors="replace").splitlines() or ["no message"]
    fault = "".join(character if character.isprintable() else "?" for character in lines[-1])[:1000]
    if process.returncode in (InputError.exit_code, 1):
        raise BundleError(
            fault if process.returncode == InputError.exit_code else f"{path}: cannot be loaded ({fault})"
        )
    code = process.returncode
    ended = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    raise BundleError(f"{path}: the process that tried it was ended {ended} ({fault})")


async def in_thread(load: Callable[[], _T]) -> _T:
    """Return what the function returns, from a thread that neither a cancelled caller nor the process waits for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def post(result: _T | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = load()
        # The caller raises it. (A panic in Rust is not an Exception.)
        except BaseException as error:  # noqa: BLE001
            failure = error if isinstance(error, Exception) else RuntimeError(repr(error))
        # The loop is closed once the process ends.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(post, result, failure)

    threading.Thread(target=run, name=LOADING_THREAD, daemon=True).start()
    return await done
