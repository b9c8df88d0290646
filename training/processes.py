"""Several processes that train together, started by torchrun: the first runs the command, the others help it to train.

Only the first process reads the inputs, writes and prints. The helpers wait until it sends them a task, which is to
take part in one training (`training.fit`): each process encodes a share of every batch, and the losses see the whole
batch. The helpers end when the first process ends, with its exit code; SIGTERM to any of them is passed to it.

Shape suffixes: P = pairs of a batch, S = pairs of a process' share, C = columns of texts, D = dimensions.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from simile.errors import SimileError
from simile.progress import say

T = TypeVar("T")
_PATIENCE = timedelta(days=30)
"""How long a helper waits: the first process may mine, score or export for hours. If a process fails, torchrun ends the
others."""
_POLL_S, _FAREWELL_S = 0.1, 10.0
"""Interval at which the store is read, and how long the first process waits until the helpers have read its code."""
_SIGTERM, _ENDED, _LEFT = "sigterm", "ended", "left"


def run_together(command: Callable[[], int]) -> int:
    """Run the command in the first process and help it in the others; return the first process' exit code in all."""
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=_PATIENCE)
    # A restart by torchrun must not read what the processes before it have written.
    shared = dist.PrefixStore(f"simile-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    # Tasks and signals are on the CPU in both cases.
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    group = dist.PrefixStore("group", shared)
    dist.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=_PATIENCE)
    return _help(shared) if rank else _lead(shared, command)


def _lead(store: dist.Store, command: Callable[[], int]) -> int:
    """Run the command, and tell the helpers its exit code."""
    _watch(store, _SIGTERM, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    code = 1
    try:
        code = command()
    finally:
        # torchrun sends it as soon as the first helper has ended.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        store.set(_ENDED, str(code))
        end_s = time.monotonic() + _FAREWELL_S
        while store.add(_LEFT, 0) < dist.get_world_size() - 1 and time.monotonic() < end_s:
            time.sleep(_POLL_S)
    return code


def _help(store: dist.Store) -> int:
    """Do the tasks of the first process, until it ends and this process with it."""

    def leave(code: bytes) -> None:
        store.add(_LEFT, 1)
        # The main thread may wait for the first process inside a call that no exception reaches.
        os._exit(int(code))

    _watch(store, _ENDED, leave)
    signal.signal(signal.SIGTERM, lambda *_: store.set(_SIGTERM, ""))
    # Ctrl-C reaches all processes of the terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        while True:
            _next_task()()
    except SimileError as error:
        say(f"process {dist.get_rank()}: {error}")
        return error.exit_code


def _watch(store: dist.Store, key: str, action: Callable[[bytes], object]) -> None:
    """Call the action with the key's value in a thread of its own, as soon as a process sets the key."""

    def watch() -> None:
        # The store is gone once torchrun ends, and so is every process soon.
        with suppress(dist.DistError):
            while not store.check([key]):
                time.sleep(_POLL_S)
            action(store.get(key))

    threading.Thread(target=watch, daemon=True).start()


def rank() -> int:
    """Return the number of this process, which is 0 for the first and for the only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def num_processes() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def num_processes_here() -> int:
    """Return the number of these processes on this machine, which share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if dist.is_initialized() else 1


def call_helpers(task: Callable[[], None]) -> None:
    """Send the helpers a task; the caller then takes part in it."""
    if num_processes() > 1:
        dist.broadcast(torch.ones(1), 0)
        dist.broadcast_object_list([task], 0, device=torch.device("cpu"))


def _next_task() -> Callable[[], None]:
    """Wait for the next task of the first process."""
    work = dist.broadcast(torch.ones(1), 0, async_op=True)
    # A call that blocks would also block the handler of SIGTERM.
    while not work.is_completed():
        time.sleep(_POLL_S)
    received: list[Callable[[], None]] = [_no_task]
    dist.broadcast_object_list(received, 0, device=torch.device("cpu"))
    return received[0]


def _no_task() -> None:
    """Do nothing: a place for the task that is received."""


def first_says(value: bool) -> bool:
    """Return the first process' value in all processes."""
    if num_processes() == 1:
        return value
    told = torch.tensor([value])
    dist.broadcast(told, 0)
    return bool(told)


def wait_for_all() -> None:
    """Wait until all processes have called this."""
    if num_processes() > 1:
        dist.all_reduce(torch.ones(1))


def share(values: Sequence[T]) -> list[T]:
    """Return this process' share of a batch, where each share has the same size.

    Process ``r`` of ``n`` takes the places ``r``, ``r + n`` and so on. Where they do not come out even, the last round
    is filled up from the start, and `gathered` drops what is too many.
    """
    size = num_processes()
    num_rounds = -(-len(values) // size)
    return [values[place % len(values)] for place in range(rank(), num_rounds * size, size)]


def gathered(columns: Sequence[Tensor], num_pairs: int) -> list[Tensor]:
    """Return the whole columns of a batch, ``(P, D)`` each, given those of this process' `share`, ``(S, D)``.

    Each process computes the same loss from them, of which its share gets the gradient. torch's data parallelism takes
    the mean of the weights' gradients over the processes, so a share's gradient is multiplied by their number.
    """
    size = num_processes()
    if size == 1:
        return list(columns)
    own_CSD = torch.stack(list(columns))
    parts_CSD = [torch.empty_like(own_CSD) for _ in range(size)]
    dist.all_gather(parts_CSD, own_CSD.detach())
    if own_CSD.requires_grad:
        own_CSD.register_hook(lambda gradient_CSD: gradient_CSD * size)  # type: ignore[no-untyped-call]
    parts_CSD[rank()] = own_CSD
    # The places of a round lie side by side.
    whole_CPD = torch.stack(parts_CSD, dim=2).flatten(1, 2)[:, :num_pairs]
    return list(whole_CPD)
