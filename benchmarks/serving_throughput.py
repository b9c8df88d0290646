"""Measure pairs per second over HTTP, compared with infinity-emb: the same encoder, texts and clients.

One server runs at a time, on the same cores as the clients. Each client sends its next request when it has the response
to the last. The peer returns embeddings; the time that its clients need to compute cosines is not counted.
"""

import argparse
import asyncio
import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import GUARD, SIMILE, place_parser, run
from results_file import commit, machine, replace_section, table

from simile.artifacts import read_pairs
from simile.scoring import Encoder, Precision, load

LOADS = ((8, 32), (32, 1), (1, 256), (1, 1))
"""Clients, and pairs per request."""
LONG_TOKENS = 256
TEXTS_PER_LONG_TEXT = 20
"""One of this many texts is long in the mixed lengths."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server to measure."""

    name: str
    command: Sequence[str]
    path: str
    ready: str
    environment: dict[str, str]

    def body(self, pairs: Sequence[tuple[str, str]]) -> bytes:
        """Return the request body for the pairs."""
        if self.path == "/embeddings":
            texts = [text for pair in pairs for text in pair]
            return json.dumps({"model": "model", "encoding_format": "base64", "input": texts}).encode()
        return json.dumps({"pairs": pairs}).encode()

    def check(self, answer: bytes, num_pairs: int) -> None:
        """Fail unless the response is complete."""
        body = json.loads(answer)
        if self.path == "/embeddings":
            assert len(body["data"]) == 2 * num_pairs
            assert len(base64.b64decode(body["data"][0]["embedding"])) % 4 == 0
        else:
            assert len(body["scores"]) == num_pairs


@dataclass(frozen=True, slots=True)
class Load:
    """Throughput and latency under one load."""

    pairs_per_s: float
    p50_ms: float
    p99_ms: float


def main() -> None:
    """Measure each server under each load, and write the section."""
    parser = place_parser(__doc__)
    parser.add_argument("--base", default="bundled:minilm", help="the encoder that is served (default: %(default)s)")
    parser.add_argument("--infinity", metavar="COMMAND", help="the infinity_emb command of another environment")
    parser.add_argument(
        "--infinity-model", type=Path, metavar="FOLDER", help="folder of its model, with onnx/model.onnx"
    )
    parser.add_argument("--precisions", nargs="+", default=["fp32"], choices=("fp32", "bf16", "int8"))
    parser.add_argument("--cache-bytes", type=int, default=0)
    parser.add_argument("--texts", choices=("stsb", "mixed"), default="stsb")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each load, after a warm-up of a fifth")
    parser.add_argument("--rounds", type=int, default=1, help="starts of each server; the (upper) median is reported")
    args = parser.parse_args()
    encoder = args.base.rpartition(":")[2]
    bundle = args.work / "serving" / encoder
    if not bundle.is_dir():
        run([*SIMILE, "baseline", args.base, "--out", bundle])
    pairs = draw_pairs(args.data / GUARD / "test.jsonl.gz", args.texts)
    results: dict[str, dict[tuple[int, int], list[Load]]] = {}
    for _ in range(args.rounds):
        for server in servers(args, bundle):
            with running(server) as port:
                for load_ in LOADS:
                    one = asyncio.run(measure(server, port, pairs, *load_, seconds=args.seconds))
                    results.setdefault(server.name, {}).setdefault(load_, []).append(one)
                    print(f"{server.name} {load_}: {one}", file=sys.stderr, flush=True)
    bare = {precision: bare_loop(bundle, pairs, precision) for precision in args.precisions}
    of_encoder = "" if encoder == "minilm" else f"{encoder}-"
    name = f"serving-{of_encoder}{args.texts}-{'cached' if args.cache_bytes else 'uncached'}"
    replace_section(args.out, name, section(results, bare, args))


def draw_pairs(path: Path, texts: str) -> list[tuple[str, str]]:
    """Return the pairs in random order; ``mixed`` makes one text in `TEXTS_PER_LONG_TEXT` long."""
    pairs = list(read_pairs(path).texts)
    draw = random.Random(0)
    draw.shuffle(pairs)
    if texts == "mixed":
        words = " ".join(text for pair in pairs for text in pair).split()
        long = (" ".join(draw.sample(words, LONG_TOKENS)) for _ in pairs)
        pairs = [(next(long), b) if i % (TEXTS_PER_LONG_TEXT // 2) == 0 else (a, b) for i, (a, b) in enumerate(pairs)]
    return pairs


def servers(args: argparse.Namespace, bundle: Path) -> Iterator[Server]:
    """Yield Simile's server at each precision, then the peer's if it is given."""
    for precision in args.precisions:
        options = ["--device", "cpu", "--precision", precision, "--cache-bytes", str(args.cache_bytes)]
        ports = ["--port", "{port}", "--metrics-port", "0"]
        command = [*SIMILE, "serve", str(bundle), *options, *ports]
        yield Server(f"simile {precision}", command, "/v1/similarity", "/readyz", {})
    if args.infinity:
        model = ["--model-id", str(args.infinity_model), "--served-model-name", "model", "--engine", "optimum"]
        command = [args.infinity, "v2", *model, "--device", "cpu", "--batch-size", "64"]
        command += ["--host", "127.0.0.1", "--port", "{port}"]
        quiet = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
        yield Server("infinity-emb", command, "/embeddings", "/health", quiet)


@contextmanager
def running(server: Server) -> Iterator[int]:
    """Start the server; yield its port once it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [word.format(port=port) for word in server.command]
    process = subprocess.Popen(
        command, env=os.environ | server.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            if process.poll() is not None:
                sys.exit(f"{server.name} ended with exit code {process.returncode}: {' '.join(command)}")
            try:
                if asyncio.run(request(port, "GET", server.ready))[0] == 200:
                    break
            except OSError:
                pass
            time.sleep(0.2)
        else:
            sys.exit(f"{server.name}: not ready within two minutes")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Connection:
    """A kept-alive HTTP/1.1 connection, without a client library whose work would count as the server's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.is_kept = True
        """Whether the server has not said that it closes the connection after its last response."""

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect to the port on this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**24))

    async def send(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request; return status and body of the response."""
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        self._writer.write(head.encode() + b"\r\n\r\n" + body)
        head_lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        (length,) = [int(line[15:]) for line in head_lines if line.startswith(b"content-length:")]
        self.is_kept = b"connection: close" not in head_lines
        return int(head_lines[0].split()[1]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


async def request(port: int, method: str, path: str) -> tuple[int, bytes]:
    """Send one request on a new connection; return status and body of the response."""
    connection = await Connection.open(port)
    try:
        return await connection.send(method, path)
    finally:
        connection.close()


async def measure(
    server: Server, port: int, pairs: Sequence[tuple[str, str]], clients: int, size: int, *, seconds: float
) -> Load:
    """Return throughput and latency as the clients see them, after a warm-up of a fifth of the seconds."""
    starts = range(0, len(pairs) - size + 1, size)
    bodies = [server.body(pairs[start : start + size]) for start in starts]
    began = time.perf_counter() + seconds / 5
    end = began + seconds
    latencies: list[float] = []

    async def client(number: int) -> None:
        connection = await Connection.open(port)
        turn = number * len(bodies) // clients
        while (start := time.perf_counter()) < end:
            status, answer = await connection.send("POST", server.path, bodies[turn % len(bodies)])
            if status != 200:
                sys.exit(f"{server.name}: got {status}, need 200: {answer[:200]!r}")
            done = time.perf_counter()
            if began <= done <= end:
                latencies.append(done - start)
            if turn % 100 == 0:
                server.check(answer, size)
            turn += 1
        connection.close()

    await asyncio.gather(*map(client, range(clients)))
    if not latencies:
        sys.exit(f"{server.name}: got no response within {seconds:g} seconds, need more --seconds")
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    return Load(len(latencies) * size / seconds, float(p50), float(p99))


def bare_loop(bundle: Path, pairs: Sequence[tuple[str, str]], precision: Precision) -> float:
    """Return the pairs per second of ONNX Runtime alone, with tokenized texts in batches of similar length."""
    scorer = load(bundle, device="cpu", precision=precision)
    (encoder,) = (member for member in scorer.members if isinstance(member, Encoder))
    tokens = encoder.tokenize([text for pair in pairs for text in pair])
    encoder.embed_tokens(tokens)
    start = time.perf_counter()
    encoder.embed_tokens(tokens)
    return len(pairs) / (time.perf_counter() - start)


def section(
    results: dict[str, dict[tuple[int, int], list[Load]]], bare: dict[str, float], args: argparse.Namespace
) -> str:
    """Return the section: conditions and table."""
    rows = []
    for name, loads in results.items():
        cells = []
        for load_ in LOADS:
            one = sorted(loads[load_], key=lambda one: one.pairs_per_s)[len(loads[load_]) // 2]
            cells.append(f"{one.pairs_per_s:,.0f} ({one.p50_ms:.0f}, {one.p99_ms:.0f})")
        rows.append([name, *cells])
    alone = ", ".join(f"{pairs:,.0f} in {precision}" for precision, pairs in bare.items())
    about = (
        f"Commit {commit()}, {args.base}, on {machine()}, {args.seconds:g} s each, {args.rounds} round(s), texts of "
        f"{args.texts}, cache of {args.cache_bytes:,} bytes. Pairs per second (p50 and p99 latency of a request in "
        "ms), by clients x pairs per request. "
        f"ONNX Runtime alone on these texts, tokenized and sorted by length: {alone} pairs per second."
    )
    header = ["server", *(f"{clients} x {size}" for clients, size in LOADS)]
    return f"{about}\n\n{table(header, rows)}"


if __name__ == "__main__":
    main()
