"""The Ray cluster of both Ray engines: joining it, its nodes, and the answers of its workers."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from simile.errors import SimileError

LOST = (RayActorError, ObjectLostError, WorkerCrashedError, OutOfMemoryError, NodeDiedError)
"""What answers of lost workers raise."""
MAX_LOSSES = 5
"""Workers that one piece of work may cost: one that ends each of them, such as by its memory, would do so forever."""
PATIENCE_S = 30.0
"""How long work waits for a node before a message says so."""


def answer(call: Any) -> Any:
    """Return the call's answer, or raise the error that the worker met."""
    try:
        with signals_unwrapped():
            return ray.get(call)
    except RayTaskError as error:
        if isinstance(error.cause, SimileError | OSError):
            raise error.cause from error
        raise


@contextmanager
def signals_unwrapped() -> Iterator[None]:
    """Raise what a signal handler raised inside Ray's extension, which wraps it in a `SystemError`."""
    try:
        yield
    except SystemError as error:
        if error.__cause__ is None or isinstance(error.__cause__, Exception):
            raise
        raise error.__cause__ from None


def connect() -> None:
    """Join the cluster that the environment names, or start one on this machine."""
    if ray.is_initialized():
        return
    # Figures go only where the user's environment says.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    is_main = threading.current_thread() is threading.main_thread()
    earlier = signal.getsignal(signal.SIGTERM)
    ray.init(logging_level="warning", log_to_driver=False)
    if is_main:
        # Ray's handler would end the process with another exit code.
        signal.signal(signal.SIGTERM, earlier)


def nodes() -> list[dict[str, float]]:
    """Return the resources of each node that has a core: ``CPU``, ``GPU`` and others by name."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
