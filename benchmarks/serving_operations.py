"""Test the service in operation: rolling restarts, key rotation, a greedy client, a shadow bundle.

Clients keep their connections and never try a request again. They share the cores with the servers.
"""

import asyncio
import itertools
import json
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from harness import GUARD, SIMILE, place_parser, run
from results_file import commit, machine, replace_section, table
from serving_endurance import PAIRS_PER_REQUEST, Figure, drawn
from serving_throughput import Connection, Server, draw_pairs, request, running

from simile.files import write_whole
from simile.scoring import Runtime

PATH = "/v1/similarity"
CLIENTS = 4
"""Clients during restarts and rotations: about half of the throughput."""
_ENDPOINT_DELAY_S = 0.5
"""Time after which a load balancer has noticed that a server is not ready."""
_OLD, _NEW, _GREEDY = "old:old-key-1234", "new:new-key-1234", "greedy:greedy-key-1234"


@dataclass
class Fleet:
    """The servers that a load balancer sends new connections to, and what the clients got."""

    ports: list[int] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    """Number of responses by status; 0 is a connection that ended without one."""

    async def client(self, bodies: Iterator[bytes], is_done: asyncio.Event) -> None:
        """Send one request after the other, on a connection that lasts as long as the server says."""
        turns, connection = itertools.count(), None
        while not is_done.is_set():
            try:
                connection = connection or await Client.open(self.ports[next(turns) % len(self.ports)])
                status = await connection.ask(next(bodies))
                self.statuses[status] += 1
                if connection.is_last:
                    connection = None
            except (OSError, EOFError):
                self.statuses[0] += 1
                connection = None


class Client(Connection):
    """A connection that notes whether the server will close it."""

    is_last = False

    async def ask(self, body: bytes, key: str = "") -> int:
        """Send a request; return the status of the response."""
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        head += f"authorization: Bearer {key.rpartition(':')[2]}\r\n" if key else ""
        self._writer.write(head.encode() + b"\r\n" + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        (length,) = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
        await self._reader.readexactly(length)
        self.is_last = b"connection: close" in lines
        if self.is_last:
            self.close()
        return int(lines[0].split()[1])


def main() -> None:
    """Run the tests, and write the section."""
    parser = place_parser(__doc__)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0, help="duration of each measurement")
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()
    bundle = args.work / "serving" / "minilm"
    if not bundle.is_dir():
        run([*SIMILE, "baseline", "bundled:minilm", "--out", bundle])
    texts = [text for pair in draw_pairs(args.data / GUARD / "test.jsonl.gz", "stsb") for text in pair]
    bodies = drawn(texts, lambda draw: draw.randint(5, 20))
    start = [*SIMILE, "serve", str(bundle), "--device", "cpu", "--precision", args.precision, "--cache-bytes", "0"]
    figures = [
        *restarts(start, bodies, args.restarts, []),
        *restarts(start, bodies, args.restarts, ["--connection-age-s", "2"]),
        *rotation(start, bodies, args.work),
        *greed(start, bodies, args.work, args.seconds),
        *shadow(start, bodies, args.work, args.seconds),
    ]
    rows = [[one.name, one.value, one.need, "pass" if one.passes else "**fail**"] for one in figures]
    about = f"Commit {commit()}, on {machine()}, {args.precision}, {PAIRS_PER_REQUEST} pairs per request, cache off."
    replace_section(args.out, "serving-operations", f"{about}\n\n{table(['', 'measured', 'needed', ''], rows)}")
    for figure in figures:
        print(f"{'pass' if figure.passes else 'FAIL'}  {figure.name}: {figure.value} (need {figure.need})")
    sys.exit(0 if all(figure.passes for figure in figures) else 1)


@contextmanager
def serving(start: Sequence[str], *options: str) -> Iterator[int]:
    """Start a server; yield its port once it is ready."""
    command = [*start, "--port", "{port}", "--metrics-port", "0", *options]
    with running(Server("simile", command, PATH, "/readyz", {})) as port:
        yield port


def restarts(start: Sequence[str], bodies: Iterator[bytes], num: int, options: Sequence[str]) -> Iterator[Figure]:
    """Replace the server again and again under load: each new one is ready before the old one gets SIGTERM."""
    fleet = asyncio.run(_restart(start, bodies, num, options))
    failed = sum(count for status, count in fleet.statuses.items() if status not in (200, 429))
    what = f"{num} rolling restarts" + (f", {' '.join(options)}" if options else "")
    value = f"{failed} of {sum(fleet.statuses.values()):,} requests failed, {fleet.statuses[429]} refused"
    yield Figure(what, value, "none failed", failed == 0)


async def _restart(start: Sequence[str], bodies: Iterator[bytes], num: int, options: Sequence[str]) -> Fleet:
    fleet, is_done = Fleet(), asyncio.Event()
    process, port = await _ready([*start, *options])
    fleet.ports.append(port)
    clients = [asyncio.create_task(fleet.client(bodies, is_done)) for _ in range(CLIENTS)]
    for _ in range(num):
        old, old_port = process, port
        process, port = await _ready([*start, *options])
        fleet.ports.append(port)
        old.send_signal(signal.SIGTERM)
        await asyncio.sleep(_ENDPOINT_DELAY_S)
        fleet.ports.remove(old_port)
        await old.wait()
    is_done.set()
    await asyncio.gather(*clients)
    process.send_signal(signal.SIGTERM)
    await process.wait()
    return fleet


async def _ready(start: Sequence[str]) -> tuple[asyncio.subprocess.Process, int]:
    """Return a server that is ready, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    quiet = asyncio.subprocess.DEVNULL
    ports = ["--port", str(port), "--metrics-port", "0"]
    process = await asyncio.create_subprocess_exec(*start, *ports, stdout=quiet, stderr=quiet)
    while True:
        with suppress(OSError):
            if (await request(port, "GET", "/readyz"))[0] == 200:
                return process, port
        await asyncio.sleep(0.1)


def rotation(start: Sequence[str], bodies: Iterator[bytes], work: Path) -> Iterator[Figure]:
    """Add a key, let the clients change to it, and remove the old one, all under load."""
    file = work / "serving" / "keys"
    write_whole(file, f"{_OLD}\n")
    with serving(start, "--api-keys-file", str(file)) as port:
        statuses, refused_s = asyncio.run(_rotate(port, bodies, file))
    wrong = sum(count for status, count in statuses.items() if status not in (200, 429))
    value = f"{wrong} of {sum(statuses.values()):,} valid calls failed"
    yield Figure("key rotation", value, "none failed", wrong == 0)
    yield Figure("a removed key is refused", f"after {refused_s:.1f} s", "at most 2 s", refused_s <= 2)


async def _rotate(port: int, bodies: Iterator[bytes], file: Path) -> tuple[Counter[int], float]:
    statuses: Counter[int] = Counter()
    key, is_done = _OLD, asyncio.Event()

    async def client() -> None:
        connection = await Client.open(port)
        while not is_done.is_set():
            statuses[await connection.ask(next(bodies), key)] += 1

    clients = [asyncio.create_task(client()) for _ in range(CLIENTS)]
    await asyncio.sleep(2)
    write_whole(file, f"{_OLD}\n{_NEW}\n")
    await asyncio.sleep(2)
    key = _NEW
    await asyncio.sleep(1)
    write_whole(file, f"{_NEW}\n")
    removed, stale = time.monotonic(), await Client.open(port)
    while await stale.ask(next(bodies), _OLD) != 401:
        await asyncio.sleep(0.05)
    refused_s = time.monotonic() - removed
    await asyncio.sleep(2)
    is_done.set()
    await asyncio.gather(*clients)
    return statuses, refused_s


def greed(start: Sequence[str], bodies: Iterator[bytes], work: Path, seconds: float) -> Iterator[Figure]:
    """Measure a modest client beside one with twenty times as many connections, by a key of its own."""
    file = work / "serving" / "keys"
    write_whole(file, f"{_OLD}\n{_GREEDY}\n")
    p99_ms = {}
    with serving(start, "--api-keys-file", str(file)) as port:
        for num_greedy in (1, 20):
            p99_ms[num_greedy] = asyncio.run(_p99_ms(port, bodies, num_greedy, seconds))
    batch_ms = 1000 * 512 / _tokens_per_s(start)
    growth = p99_ms[20] - p99_ms[1]
    value = f"p99 {p99_ms[1]:.0f} -> {p99_ms[20]:.0f} ms beside 1 and 20 connections of another key"
    need = f"at most one batch more ({batch_ms:.0f} ms)"
    yield Figure("a greedy key", value, need, growth <= batch_ms)


async def _p99_ms(port: int, bodies: Iterator[bytes], num_greedy: int, seconds: float) -> float:
    took: list[float] = []
    end = time.monotonic() + seconds

    async def client(key: str) -> None:
        connection = await Client.open(port)
        while (begin := time.monotonic()) < end:
            await connection.ask(next(bodies), key)
            if key == _OLD:
                took.append(time.monotonic() - begin)

    await asyncio.gather(client(_OLD), *(client(_GREEDY) for _ in range(num_greedy)))
    return float(np.percentile(took, 99)) * 1000


def _tokens_per_s(start: Sequence[str]) -> float:
    """Return the tokens per second of one inference thread, as the service measures them."""
    with serving(start) as port:
        _, answer = asyncio.run(request(port, "GET", "/v1/bundle"))
    served = json.loads(answer)
    limits, runtime = served["limits"], Runtime(served["provider"], served["precision"])
    return float(limits["max_tokens"]) / (limits["deadline_s"] / 2) / runtime.batches_at_once


def shadow(start: Sequence[str], bodies: Iterator[bytes], work: Path, seconds: float) -> Iterator[Figure]:
    """Measure what a shadow bundle with share 1 costs at half of the throughput, and at all of it."""
    candidate = work / "serving" / "shadow"
    if not candidate.is_dir():
        run([*SIMILE, "baseline", "bundled:minilm", "--max-length", "64", "--out", candidate])
    with ExitStack() as stack:
        alone = stack.enter_context(serving(start))
        full = asyncio.run(_throughput(alone, bodies, seconds))
        half = asyncio.run(_throughput(alone, bodies, seconds, full / 2))
    with serving(start, "--shadow", str(candidate), "--shadow-share", "1") as port:
        _wait_for_shadow(port)
        shadow_full = asyncio.run(_throughput(port, bodies, seconds))
        shadow_half = asyncio.run(_throughput(port, bodies, seconds, full / 2))
        _, answer = asyncio.run(request(port, "GET", "/v1/bundle"))
    num_compared = json.loads(answer)["shadow"]["pairs"]
    for load, without, beside, least in (("half", half, shadow_half, 0.95), ("full", full, shadow_full, 0.98)):
        value = f"{without:,.0f} -> {beside:,.0f} pairs per second ({beside / without - 1:+.1%})"
        yield Figure(f"a shadow at {load} load", value, f"at most {1 - least:.0%} less", beside >= least * without)
    yield Figure("pairs that the shadow compared", f"{num_compared:,}", "some", num_compared > 0)


def _wait_for_shadow(port: int) -> None:
    while not json.loads(asyncio.run(request(port, "GET", "/v1/bundle"))[1])["shadow"]:
        time.sleep(0.2)


async def _throughput(port: int, bodies: Iterator[bytes], seconds: float, pairs_per_s: float | None = None) -> float:
    """Return the pairs per second of 8 clients, at this rate of requests or as fast as they are answered."""
    num_clients, begin = 8, time.monotonic()
    pause_s = 0.0 if pairs_per_s is None else num_clients * PAIRS_PER_REQUEST / pairs_per_s
    num_done = 0

    async def client(number: int) -> None:
        nonlocal num_done
        connection = await Client.open(port)
        for turn in itertools.count():
            due = begin + (turn + number / num_clients) * pause_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if time.monotonic() > begin + seconds:
                return
            status = await connection.ask(next(bodies))
            num_done += PAIRS_PER_REQUEST * (status == 200)

    await asyncio.gather(*map(client, range(num_clients)))
    return num_done / (time.monotonic() - begin)


if __name__ == "__main__":
    main()
