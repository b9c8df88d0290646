"""The Ray engine of bulk work: a pool of actors, one worker each, on the nodes of a cluster.

Each actor has one shard at a time, and the next one is given to whichever is free: a slow node gets fewer. A shard
whose actor or node is lost goes to another actor, and a new actor is asked for. Because a part appears under its name
whole, a shard that was computed twice does no harm. All nodes need the bundle, the input and the output under the same
paths, or in a bucket.
"""

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from pipeline.engines.cluster import LOST, MAX_LOSSES, PATIENCE_S, answer, connect, nodes, signals_unwrapped
from simile.bulk.parts import Whole
from simile.bulk.tables import Shard
from simile.bulk.worker import BulkJob, OnRows, Worker
from simile.errors import StoppedError
from simile.progress import say


class _Actor:
    """A worker in the driver's folder that loads its bundle when asked to, so that its errors are those of a call."""

    def __init__(self, job: BulkJob, folder: str) -> None:
        self._job, self._folder = job, folder
        self._worker: Worker | None = None

    def load(self) -> None:
        """Load the bundle."""
        os.chdir(self._folder)
        self._worker = Worker(self._job)

    def compute(self, shard: Shard) -> Whole:
        """Write the shard's part."""
        if self._worker is None:
            self.load()
        assert self._worker
        return self._worker.compute(shard)


@dataclass(slots=True)
class _Pool:
    """The actors, what each is doing, and what is left to do."""

    job: BulkJob
    options: dict[str, Any]
    waiting: deque[Shard]
    running: dict[Any, tuple[Any, Shard | None]] = field(default_factory=dict)
    """The actor and its shard, by the reference to the call's answer; without a shard, it loads its bundle."""
    losses: Counter[str] = field(default_factory=Counter)

    def start(self) -> None:
        """Ask the cluster for one more actor."""
        actor = ray.remote(_Actor).options(**self.options).remote(self.job, os.getcwd())
        self.running[actor.load.remote()] = (actor, None)

    def give(self, actor: Any) -> None:
        """Give the next shard to a free actor; end it where none is left."""
        if self.waiting:
            shard = self.waiting.popleft()
            self.running[actor.compute.remote(shard)] = (actor, shard)
        else:
            ray.kill(actor)

    def lose(self, actor: Any, shard: Shard | None) -> None:
        """Put the lost actor's shard first in the line, and start another actor."""
        # It may only be unreachable, and would then compute in vain.
        ray.kill(actor)
        name = shard.part if shard else "the bundle"
        self.losses[name] += 1
        if self.losses[name] >= MAX_LOSSES:
            got = f"Ray: {self.losses[name]} workers were lost with {name}"
            raise StoppedError(f"{got}; is their memory enough? Run the same command to resume")
        say(f"Ray: a worker with {name} was lost; another one takes over")
        if shard:
            self.waiting.appendleft(shard)
        self.start()

    @property
    def is_done(self) -> bool:
        """Whether no shard is left; an actor that still waits for its node is not needed any more."""
        return not self.waiting and not any(shard for _, shard in self.running.values())

    def end(self) -> None:
        """End all actors."""
        for actor, _ in self.running.values():
            ray.kill(actor)


def run(
    job: BulkJob, shards: Sequence[Shard], on_rows: OnRows, *, actors: int | None = None, gpus_per_actor: float = 0
) -> Iterator[Whole]:
    """Yield each shard's part when it is whole; see `pipeline.engines.Engine`.

    By default, there is one actor per node, or one per ``gpus_per_actor`` GPUs.
    """
    connect()
    num_actors, num_cpus = _shape(actors, gpus_per_actor)
    # A lost actor is replaced here, because one that Ray restarts would keep its shard waiting for its node.
    options = {"num_cpus": num_cpus, "num_gpus": gpus_per_actor, "scheduling_strategy": "SPREAD", "max_restarts": 0}
    pool = _Pool(job, options, deque(shards))
    try:
        for _ in range(min(num_actors, len(shards))):
            pool.start()
        while not pool.is_done:
            with signals_unwrapped():
                done, _ = ray.wait(list(pool.running), num_returns=1, timeout=PATIENCE_S)
            if not done and not any(shard for _, shard in pool.running.values()):
                say(f"Ray: waits for a node with {num_cpus} CPUs and {gpus_per_actor:g} GPUs to load the bundle")
            for call in done:
                actor, shard = pool.running.pop(call)
                try:
                    whole = answer(call)
                except LOST:
                    pool.lose(actor, shard)
                    continue
                if shard:
                    on_rows(shard.num_rows)
                    yield whole
                pool.give(actor)
    finally:
        pool.end()


def _shape(actors: int | None, gpus_per_actor: float) -> tuple[int, int]:
    """Return the number of actors and the CPUs of each."""
    alive = nodes()
    num_cpus, num_gpus = (sum(node.get(name, 0) for node in alive) for name in ("CPU", "GPU"))
    by_gpus = int(num_gpus / gpus_per_actor) if gpus_per_actor else len(alive)
    num_actors = actors or max(1, by_gpus)
    smallest = min((node["CPU"] for node in alive), default=1)
    return num_actors, max(1, int(min(smallest, num_cpus / num_actors)))
