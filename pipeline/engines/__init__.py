"""Engines: where bulk work and trainings are computed. What is computed is the same for each.

Bulk work comes in shards (`simile.bulk.worker`). Its engine is a generator, which yields each part when it is whole, in
any order, and collects neither rows nor texts. The members of a run (`pipeline.members`) are trained by a function,
which returns when all of their bundles are whole.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from simile.bulk.parts import Whole
from simile.bulk.tables import Shard
from simile.bulk.worker import BulkJob, OnRows

# Bulk work runs where what trains is not installed.
if TYPE_CHECKING:
    from pipeline.members import Members


class Engine(Protocol):
    """A way to compute shards."""

    def __call__(self, job: BulkJob, shards: Sequence[Shard], on_rows: OnRows) -> Iterator[Whole]:
        """Yield each shard's part when it is whole; call ``on_rows`` with the number of rows done since the last call.

        Raises:
            InputError: the bundle or the input does not fit, on this machine or on a worker's.
            StoppedError: workers were lost too often; the same command resumes.
        """


class TrainMembers(Protocol):
    """A way to train the members of a run."""

    def __call__(self, members: "Members") -> None:
        """Train all members to their bundles; what an earlier call has trained is not repeated.

        Raises:
            InputError: the pairs or a config cannot be trained on.
            StoppedError: a training was stopped, or its workers were lost too often; the same call resumes.
        """
