"""The local engine: one worker in this process, whose encoders use all of its cores or its GPU."""

from collections.abc import Iterator, Sequence

from simile.bulk.parts import Whole
from simile.bulk.tables import Shard
from simile.bulk.worker import BulkJob, OnRows, Worker


def run(job: BulkJob, shards: Sequence[Shard], on_rows: OnRows) -> Iterator[Whole]:
    """Yield each shard's part when it is whole; see `pipeline.engines.Engine`."""
    worker = Worker(job)
    for shard in shards:
        yield worker.compute(shard, on_rows)
