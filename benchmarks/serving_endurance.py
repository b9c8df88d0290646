"""Test the service's endurance: ``overload`` sends twice its throughput, ``soak`` many texts of all lengths.

Clients and server share the same cores. Latencies are measured in the client and include its own work.
"""

import asyncio
import itertools
import json
import math
import random
import re
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness import GUARD, SIMILE, place_parser, run
from results_file import commit, machine, replace_section, table
from serving_throughput import Connection, Server, draw_pairs, request, running

PATH = "/v1/similarity"
PAIRS_PER_REQUEST = 8
SATURATING_CLIENTS = 32
"""Clients that each wait for their response: enough to saturate the service without refusals."""
SOAKING_CLIENTS = 4
MAX_WORDS = 256
MAX_LOSS, MAX_REFUSAL_MS, MAX_ANSWER_MS, MAX_GROWTH = 0.10, 50.0, 2_500.0, 0.05
"""Limits of the loss of throughput, of the p99 latencies of refusals and answers, and of the growth of memory."""
_PERIOD_S, _KEPT_S = 0.5, 3.0


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, its requirement, and whether it is met."""

    name: str
    value: str
    need: str
    passes: bool


@dataclass(slots=True)
class Memory:
    """The server's resident memory in MiB over time (`time.monotonic`)."""

    samples: list[tuple[float, float]] = field(default_factory=list)

    async def watch(self, port: int) -> None:
        """Sample the service's own metric until cancelled."""
        while True:
            _, answer = await request(port, "GET", "/metrics")
            match = re.search(rb"^process_resident_memory_bytes (\S+)", answer, re.M)
            assert match
            self.samples.append((time.monotonic(), float(match[1]) / 2**20))
            await asyncio.sleep(_PERIOD_S)

    def figure(self, marks: Sequence[float]) -> Figure:
        """Return the growth from the second tenth of the work to the last.

        Args:
            marks: the time at which each tenth was done.
        """
        second = [mib for at, mib in self.samples if marks[0] <= at <= marks[1]]
        last = [mib for at, mib in self.samples if marks[8] <= at <= marks[9]]
        growth = statistics.mean(last) / statistics.mean(second) - 1
        value = f"{statistics.mean(second):,.0f} -> {statistics.mean(last):,.0f} MiB ({growth:+.1%})"
        need = f"at most {MAX_GROWTH:+.0%} from the second tenth to the last"
        return Figure("resident memory", value, need, growth <= MAX_GROWTH)


@dataclass(slots=True)
class Answers:
    """Time, status and latency of each response."""

    got: list[tuple[float, int, float]] = field(default_factory=list)

    async def ask(self, connection: Connection, body: bytes, num_pairs: int) -> bool:
        """Send the body, record the response (status 0: none), and return whether there was one."""
        start, status = time.monotonic(), 0
        try:
            status, answer = await connection.send("POST", PATH, body)
            if status == 200:
                assert len(json.loads(answer)["scores"]) == num_pairs
        except (OSError, EOFError):
            pass
        now = time.monotonic()
        self.got.append((now, status, now - start))
        return status > 0

    def num(self, *statuses: int) -> int:
        """Return the number of responses with one of these statuses."""
        return sum(status in statuses for _, status, _ in self.got)

    def p99_ms(self, status: int) -> float:
        """Return the p99 latency of the responses with this status; infinite without any."""
        took_ms = sorted(1000 * took for _, one, took in self.got if one == status) or [math.inf]
        return took_ms[math.ceil(0.99 * len(took_ms)) - 1]

    def pairs_per_s(self, begin: float, end: float) -> float:
        """Return the pairs per second that were scored between the two times."""
        return (
            PAIRS_PER_REQUEST * sum(begin < at <= end and status == 200 for at, status, _ in self.got) / (end - begin)
        )


def main() -> None:
    """Run one of the two tests, and write its section."""
    parser = place_parser(__doc__)
    parser.add_argument("what", choices=("overload", "soak"))
    parser.add_argument(
        "--seconds",
        type=float,
        default=600.0,
        help="duration of the overload, after a tenth of it to find the throughput; a full queue waits 15 s",
    )
    parser.add_argument("--pairs", type=int, default=200_000, help="pairs of the soak")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "int8"))
    args = parser.parse_args()
    bundle = args.work / "serving" / "minilm"
    if not bundle.is_dir():
        run([*SIMILE, "baseline", "bundled:minilm", "--out", bundle])
    texts = [text for pair in draw_pairs(args.data / GUARD / "test.jsonl.gz", "stsb") for text in pair]
    # The cache is off for the overload, which might fill it slowly: that would look like a leak.
    options = ["--cache-bytes", "0"] if args.what == "overload" else []
    with served(bundle, args.precision, options) as (port, metrics_port):
        if args.what == "overload":
            about, figures = asyncio.run(overload(port, metrics_port, texts, args.seconds))
        else:
            about, figures = asyncio.run(soak(port, metrics_port, texts, args.pairs))
    replace_section(args.out, f"serving-{args.what}", section(about, args.precision, figures))
    for figure in figures:
        print(f"{'pass' if figure.passes else 'FAIL'}  {figure.name}: {figure.value} (need {figure.need})")
    sys.exit(0 if all(figure.passes for figure in figures) else 1)


@contextmanager
def served(bundle: Path, precision: str, options: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Start the service; yield the ports of its API and its metrics."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        metrics_port = listener.getsockname()[1]
    command = [*SIMILE, "serve", str(bundle), "--device", "cpu", "--precision", precision, *options]
    command += ["--port", "{port}", "--metrics-port", str(metrics_port)]
    with running(Server("simile", command, PATH, "/readyz", {})) as port:
        yield port, metrics_port


async def overload(port: int, metrics_port: int, texts: Sequence[str], seconds: float) -> tuple[str, list[Figure]]:
    """Measure the service's throughput, then send twice as much."""
    lengths = [len(text.split()) for text in texts]
    bodies = drawn(texts, lambda draw: draw.choice(lengths))
    best = await saturated(port, bodies, seconds / 10)
    memory, answers = Memory(), Answers()
    readiness: Counter[int] = Counter()
    watching = asyncio.gather(memory.watch(metrics_port), watch_readiness(port, readiness))
    begin = time.monotonic()
    await flood(port, bodies, answers, 2 * best / PAIRS_PER_REQUEST, seconds)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    marks = [begin + seconds * tenth / 10 for tenth in range(1, 11)]
    # The queue fills within the first tenth.
    throughput = answers.pairs_per_s(marks[0], marks[9])
    p99_ms = answers.p99_ms(429)
    num_lost = len(answers.got) - answers.num(200, 429)
    figures = [
        Figure(
            "pairs per second",
            f"{throughput:,.0f}, {throughput / best - 1:+.1%} of {best:,.0f}",
            f"at most {MAX_LOSS:.0%} below the throughput without overload",
            throughput >= (1 - MAX_LOSS) * best,
        ),
        Figure(
            "p99 latency of a refusal",
            f"{p99_ms:.1f} ms of {answers.num(429):,}",
            f"at most {MAX_REFUSAL_MS:g} ms",
            p99_ms <= MAX_REFUSAL_MS,
        ),
        Figure(
            "p99 latency of an answer",
            f"{answers.p99_ms(200):,.0f} ms of {answers.num(200):,}",
            f"at most {MAX_ANSWER_MS:,.0f} ms",
            answers.p99_ms(200) <= MAX_ANSWER_MS,
        ),
        Figure(
            "unready",
            f"{readiness.total() - readiness[200]} of {readiness.total():,} answers of /readyz",
            "none",
            readiness.total() == readiness[200],
        ),
        Figure(
            "responses other than 200 and 429", f"{num_lost:,} of {len(answers.got):,} requests", "none", num_lost == 0
        ),
        memory.figure(marks),
    ]
    load = f"twice the {best:,.0f} pairs per second of {SATURATING_CLIENTS} waiting clients"
    return f"{seconds:g} s of {load}, {PAIRS_PER_REQUEST} pairs per request, all texts distinct, cache off", figures


async def watch_readiness(port: int, statuses: Counter[int]) -> None:
    """Count the statuses of /readyz until cancelled."""
    while True:
        statuses[(await request(port, "GET", "/readyz"))[0]] += 1
        await asyncio.sleep(_PERIOD_S)


async def saturated(port: int, bodies: Iterator[bytes], seconds: float) -> float:
    """Return the pairs per second of clients that wait for each response, after a warm-up of a fifth."""
    answers, end = Answers(), time.monotonic() + seconds

    async def client() -> None:
        connection = await Connection.open(port)
        while time.monotonic() < end:
            await answers.ask(connection, next(bodies), PAIRS_PER_REQUEST)
        connection.close()

    await asyncio.gather(*(client() for _ in range(SATURATING_CLIENTS)))
    if answers.num(200) < len(answers.got):
        sys.exit(f"got {len(answers.got) - answers.num(200)} responses other than 200 before the overload, need none")
    return answers.pairs_per_s(end - 0.8 * seconds, end)


async def flood(port: int, bodies: Iterator[bytes], answers: Answers, requests_per_s: float, seconds: float) -> None:
    """Send requests at this rate without waiting for responses, then wait for all of them."""
    free: list[tuple[float, Connection]] = []
    asking: set[asyncio.Task[None]] = set()

    async def one(body: bytes) -> None:
        # The most recently used connection, since the server closes those that are idle for five seconds.
        while free and free[-1][0] < time.monotonic() - _KEPT_S:
            free.pop()[1].close()
        connection = free.pop()[1] if free else await Connection.open(port)
        if await answers.ask(connection, body, PAIRS_PER_REQUEST) and connection.is_kept:
            free.append((time.monotonic(), connection))
        else:
            connection.close()

    begin = time.monotonic()
    for number in itertools.count():
        if (due := begin + number / requests_per_s) > begin + seconds:
            break
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        asking.add(task := asyncio.create_task(one(next(bodies))))
        task.add_done_callback(asking.discard)
    await asyncio.gather(*asking)


async def soak(port: int, metrics_port: int, texts: Sequence[str], num_pairs: int) -> tuple[str, list[Figure]]:
    """Score this many pairs of new texts."""
    memory, answers = Memory(), Answers()
    watching = asyncio.create_task(memory.watch(metrics_port))
    # Uniform in the logarithm: as many texts of 1 to 2 words as of 128 to 256.
    bodies = drawn(texts, lambda draw: round(MAX_WORDS ** draw.random()))
    requests = itertools.islice(bodies, max(10, num_pairs // PAIRS_PER_REQUEST))
    begin = time.monotonic()

    async def client() -> None:
        connection = await Connection.open(port)
        for body in requests:
            await answers.ask(connection, body, PAIRS_PER_REQUEST)
        connection.close()

    await asyncio.gather(*(client() for _ in range(SOAKING_CLIENTS)))
    watching.cancel()
    ends = sorted(at for at, _, _ in answers.got)
    marks = [ends[len(ends) * tenth // 10 - 1] for tenth in range(1, 11)]
    num_failed = len(answers.got) - answers.num(200)
    rate = f"{PAIRS_PER_REQUEST * answers.num(200) / (marks[-1] - begin):,.0f} pairs per second"
    figures = [
        Figure("responses other than 200", f"{num_failed:,} of {len(answers.got):,} requests", "none", num_failed == 0),
        memory.figure(marks),
    ]
    about = f"{num_pairs:,} pairs, {PAIRS_PER_REQUEST} per request, 1 to {MAX_WORDS} words per text"
    return f"{about}; default cache; {SOAKING_CLIENTS} clients; {rate}", figures


def drawn(texts: Sequence[str], num_words: Callable[[random.Random], int]) -> Iterator[bytes]:
    """Yield requests without end, whose new texts are made of these texts' words.

    Repeated texts would be embedded once for all waiting requests, and would be no load.
    """
    draw = random.Random(0)
    words = [word for text in texts for word in text.split()]

    def text() -> str:
        return " ".join(draw.choices(words, k=num_words(draw)))

    while True:
        yield json.dumps({"pairs": [(text(), text()) for _ in range(PAIRS_PER_REQUEST)]}).encode()


def section(about: str, precision: str, figures: Sequence[Figure]) -> str:
    """Return the section: conditions and table."""
    rows = [[one.name, one.value, one.need, "pass" if one.passes else "**fail**"] for one in figures]
    where = f"Commit {commit()}, on {machine()}, {precision}: {about}."
    return f"{where}\n\n{table(['', 'measured', 'needed', ''], rows)}"


if __name__ == "__main__":
    main()
