"""The only way from a worker thread back to the event loop."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from serving.job_queue import Job


class Results:
    """Passes what worker threads have computed to callbacks that run on the event loop. Safe to use from any thread.

    Args:
        on_embedded: called with the jobs of one batch and their embeddings, shape ``(B, D)``.
        on_failed: called with a job that has no embedding, and the error of its calls.
    """

    def __init__(
        self,
        on_embedded: Callable[[Sequence[Job], NDArray[np.float32]], None],
        on_failed: Callable[[Job, Exception], None],
    ) -> None:
        self._on_embedded = on_embedded
        self._on_failed = on_failed
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop that runs the callbacks; set before the first job."""

    def embedded(self, jobs: Sequence[Job], embedding_BD: NDArray[np.float32]) -> None:
        """Hand over the embeddings of a batch."""
        self._post(self._on_embedded, jobs, embedding_BD)

    def failed(self, job: Job, error: Exception) -> None:
        """Hand over the error of a job."""
        self._post(self._on_failed, job, error)

    def _post(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            assert self.loop
            self.loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            pass  # The event loop is closed, so no call is waiting.
