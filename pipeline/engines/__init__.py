"""Engines: where the shards of bulk work are computed. The work itself is `simile.bulk.worker`, the same for each.

An engine is a generator: it yields each part when it is whole, in any order, and collects neither rows nor texts.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from simile.bulk.parts import Whole
from simile.bulk.tables import Shard
from simile.bulk.worker import BulkJob, OnRows


class Engine(Protocol):
    """A way to compute shards."""

    def __call__(self, job: BulkJob, shards: Sequence[Shard], on_rows: OnRows) -> Iterator[Whole]:
        """Yield each shard's part when it is whole; call ``on_rows`` with the number of rows done since the last call.

        Raises:
            InputError: the bundle or the input does not fit, on this machine or on a worker's.
            StoppedError: workers were lost too often; the same command resumes.
        """
