"""The local engine: one worker in this process, whose encoders use all of its cores or its GPU."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from simile.bulk.parts import Whole
from simile.bulk.tables import Shard
from simile.bulk.worker import BulkJob, OnRows, Worker
from simile.progress import say

if TYPE_CHECKING:
    from pipeline.members import Members


def run(job: BulkJob, shards: Sequence[Shard], on_rows: OnRows) -> Iterator[Whole]:
    """Yield each shard's part when it is whole; see `pipeline.engines.Engine`."""
    worker = Worker(job)
    for shard in shards:
        yield worker.compute(shard, on_rows)


def train(members: "Members") -> None:
    """Train one member after the other; see `pipeline.engines.TrainMembers`."""
    for number, name in enumerate(members.names):
        if len(members.names) > 1:
            say(f"      member {name}")
        members.train(number)
