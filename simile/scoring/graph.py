"""An encoder's graph, shared by several threads, and the choice of the session that runs a batch.

Shape suffixes: B = texts of a batch, T = tokens, D = dimensions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

import numpy as np
from numpy.typing import NDArray

from simile.scoring.provider import Runtime, open_session


class Graph:
    """A graph on a runtime, for `Runtime.batches_at_once` threads; more gain nothing.

    Each thread's batch has its share of the cores. If the runtime has `Runtime.few_tokens`, a small batch that runs
    alone has all cores, in a second session. While it runs, other batches wait: OpenVINO's threads that share a batch
    spin when one of them waits for its core.
    """

    def __init__(self, model: bytes, runtime: Runtime) -> None:
        self._few_tokens = runtime.few_tokens
        self._shared = open_session(model, runtime, runtime.batches_at_once)
        self._whole = open_session(model, runtime, 1) if self._few_tokens else self._shared
        self.output_shape: list[int | str] = self._shared.get_outputs()[0].shape
        """Sizes of the embeddings, with a name for each that the graph leaves open."""
        self._num_running = 0
        self._is_whole = False
        """Whether a batch is running that has all cores."""
        self._changed = Condition()

    def embed(self, ids_BT: NDArray[np.int64], mask_BT: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the embeddings of a batch, shape ``(B, D)``; thread-safe."""
        with self._running(is_small=ids_BT.size <= self._few_tokens) as is_whole:
            session = self._whole if is_whole else self._shared
            (embedding_BD,) = session.run(None, {"input_ids": ids_BT, "attention_mask": mask_BT})
        return np.asarray(embedding_BD, dtype=np.float32)

    @contextmanager
    def _running(self, *, is_small: bool) -> Iterator[bool]:
        """Wait while another batch has all cores, then count this one as running; yield whether it has all cores."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_whole)
            self._is_whole = is_whole = is_small and not self._num_running
            self._num_running += 1
        try:
            yield is_whole
        finally:
            with self._changed:
                self._num_running -= 1
                if is_whole:
                    self._is_whole = False
                    self._changed.notify_all()
