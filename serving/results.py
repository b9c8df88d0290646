"""The only way from a worker thread back to the event loop."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.job_queue import Job


@dataclass
class Results:
    """Passes what worker threads have computed to callbacks on the event loop. Safe to use from any thread."""

    on_embedded: Callable[[Sequence[Job], NDArray[np.float32]], None]
    """Called with the jobs of one batch and their embeddings, shape ``(B, D)``."""
    on_failed: Callable[[Job, Exception], None]
    """Called with a job that has no embedding, and the error of its calls."""
    loop: asyncio.AbstractEventLoop | None = None
    """The event loop that runs the callbacks; set before the first job."""

    def failed(self, job: Job, error: Exception) -> None:
        """Hand over the error of a job."""
        self.post(self.on_failed, job, error)

    def post(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call the callback, one of the above or a call's own, on the event loop."""
        try:
            assert self.loop
            self.loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            pass  # The event loop is closed, so no call is waiting.
