"""The Ray engine of a run's trainings: members, and the shares of ``most_pairs``, side by side on a cluster.

Each training is a task in a process of its own, which reads the pairs itself. If its worker or node is lost, another
worker continues from its last checkpoint. Ray's own retries are not used, because they say nothing, and because after a
kill for lack of memory they never end. The workers' messages reach the driver through a queue. All nodes need the files
of the run under the same paths.
"""

import io
import os
import signal
import socket
import time
from collections import Counter
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.engines.cluster import LOST, MAX_LOSSES, PATIENCE_S, answer, connect, nodes, signals_unwrapped
from pipeline.members import Members
from simile.errors import StoppedError
from simile.hardware import bound_library_threads, usable_cores
from simile.progress import say

_POLL_S = 0.5
_FAREWELL_S = 60.0
"""How long trainings that are asked to stop may take for their step and their checkpoint."""


class _Training(NamedTuple):
    """One task: a share of a member, or the member itself, to its bundle."""

    member: int
    share: int | None
    name: str


class _Messages(io.TextIOBase):
    """A worker's standard error, whose lines go to the driver with the training's name."""

    def __init__(self, queue: Queue, name: str) -> None:
        self._queue, self._name, self._rest = queue, name, ""

    def write(self, text: str) -> int:
        """Send the lines that are whole."""
        *lines, self._rest = (self._rest + text).split("\n")
        # A training goes on without a driver that listens.
        with suppress(RayError):
            self._queue.put_nowait_batch([(self._name, line) for line in lines])
        return len(text)


def _work(members: Members, training: _Training, folder: str, num_cpus: int, queue: Queue) -> None:
    """Train on a worker, in the driver's folder and with as many threads as the task has cores."""
    os.chdir(folder)
    os.environ["SIMILE_THREADS"] = str(min(num_cpus, usable_cores()))
    bound_library_threads()
    # Ray cancels by SIGINT. A training stops after its step, as at SIGTERM.
    signal.signal(signal.SIGINT, lambda *_: signal.raise_signal(signal.SIGTERM))
    with redirect_stderr(_Messages(queue, training.name)):
        say(f"on {socket.gethostname()}, cores: {num_cpus}")
        if training.share is None:
            members.train(training.member)
        else:
            members.train_share(training.member, training.share)


@dataclass(slots=True)
class _Cluster:
    """The trainings that are running or wait for a node, and what is still to be done."""

    members: Members
    num_cpus: int
    num_gpus: float
    queue: Queue
    sent: Any
    """Reference to the members, as workers get them."""
    running: dict[Any, _Training] = field(default_factory=dict)
    """Each training by the reference to its task's answer."""
    shares_left: Counter[int] = field(default_factory=Counter)
    """Number of shares that are not trained, by member."""
    losses: Counter[str] = field(default_factory=Counter)
    begun: set[str] = field(default_factory=set)
    """Names of the trainings that have said something."""
    told_s: float = field(default_factory=time.monotonic)
    """Time from which a wait for nodes counts."""

    def start(self, training: _Training) -> None:
        """Ask the cluster for a worker."""
        # A process that trains a second time would keep the memory and the threads of the first.
        task = ray.remote(max_retries=0, max_calls=1)(_work).options(
            name=training.name, num_cpus=self.num_cpus, num_gpus=self.num_gpus, scheduling_strategy="SPREAD"
        )
        call = task.remote(self.sent, training, os.getcwd(), self.num_cpus, self.queue)
        self.running[call] = training
        self.begun.discard(training.name)

    def finish(self, training: _Training) -> None:
        """Start the member's own training after the last of its shares."""
        if training.share is not None:
            self.shares_left[training.member] -= 1
            if not self.shares_left[training.member]:
                self.start(_Training(training.member, None, self.members.names[training.member]))

    def lose(self, training: _Training, error: Exception) -> None:
        """Give the training to another worker, unless it has lost too many."""
        self.losses[training.name] += 1
        why = str(error) if isinstance(error, StoppedError) else "the worker was lost"
        if self.losses[training.name] >= MAX_LOSSES:
            got = f"Ray: {self.losses[training.name]} workers were lost with {training.name} (the last: {why})"
            raise StoppedError(f"{got}; is their memory enough? Run the same command to resume") from error
        say(f"{training.name}: {why}; another worker continues")
        self.start(training)

    def step(self) -> None:
        """Wait a moment for trainings to end, and pass on what they say."""
        with signals_unwrapped():
            done, _ = ray.wait(list(self.running), num_returns=1, timeout=_POLL_S)
        self.listen()
        for call in done:
            training = self.running.pop(call)
            try:
                answer(call)
            except (*LOST, StoppedError) as error:
                self.lose(training, error)
            else:
                self.finish(training)

    def listen(self) -> None:
        """Say what the workers have said; if none has begun for a while, say what they wait for."""
        lines: list[tuple[str, str]] = []
        # The trainings go on if their messages are lost.
        with suppress(RayError), signals_unwrapped():
            lines = self.queue.get_nowait_batch(self.queue.qsize())
        for name, line in lines:
            say(f"{name}: {line}")
            self.begun.add(name)
        if any(training.name in self.begun for training in self.running.values()):
            self.told_s = time.monotonic()
        elif time.monotonic() - self.told_s > PATIENCE_S:
            say(f"Ray: waits for a node with {self.num_cpus} CPUs and {self.num_gpus:g} GPUs to train")
            self.told_s = time.monotonic()

    def stop(self) -> None:
        """Have the running trainings stop after their step, and wait until they have."""
        for call in self.running:
            ray.cancel(call)
        end_s = time.monotonic() + _FAREWELL_S
        calls = list(self.running)
        while calls and time.monotonic() < end_s:
            _, calls = ray.wait(calls, num_returns=len(calls), timeout=_POLL_S)
            self.listen()
        for call in calls:
            ray.cancel(call, force=True)


def train(members: Members, *, num_cpus: int | None = None, num_gpus: float = 0) -> None:
    """Train all members side by side; see `pipeline.engines.TrainMembers`.

    Each training gets ``num_gpus`` GPUs, and by default the most cores with which all can run at once.
    """
    shares = members.shares_left()
    connect()
    first = []
    for number, name in enumerate(members.names):
        first += [_Training(number, share, f"{name} share {share}") for share in shares[number]]
        if not shares[number]:
            first.append(_Training(number, None, name))
    # Lost with any other node than this one, the messages would end.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    cores = num_cpus or _cores(nodes(), len(first), num_gpus)
    cluster = _Cluster(members, cores, num_gpus, queue, ray.put(members))
    cluster.shares_left.update(training.member for training in first if training.share)
    try:
        for training in first:
            cluster.start(training)
        while cluster.running:
            cluster.step()
    finally:
        cluster.stop()
        queue.shutdown(force=True)


def _cores(alive: list[dict[str, float]], num: int, gpus: float) -> int:
    """Return the most cores per training with which ``num`` of them run at once, or as many as ever can."""

    def at_once(cores: int) -> int:
        by_gpus = [int(node.get("GPU", 0) / gpus) if gpus else num for node in alive]
        return sum(min(int(node["CPU"] / cores), most) for node, most in zip(alive, by_gpus, strict=True))

    most = max((int(node["CPU"]) for node in alive), default=1)
    return max((cores for cores in range(1, most + 1) if at_once(cores) >= min(num, at_once(1))), default=1)
