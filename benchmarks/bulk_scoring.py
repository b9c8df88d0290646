"""Measure `simile score` of a folder: speed beside the scorer in memory, resident memory, kills, and the Ray engine.

The pairs are texts of the corpora, varied so that few are equal. A stopped benchmark resumes from its results.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from harness import SIMILE, end_with_children, place_parser, run
from results_file import origin, replace_section, table, write_result

from simile.artifacts.reading import read_rows
from simile.files import whole_directory
from simile.scoring import load

ABOUT = """\
`simile score BUNDLE --pairs in/ --out out/` on Parquet files of generated pairs, from which few texts are equal.
*In memory* is one call of `simile.load(BUNDLE).score` for as many pairs as a shard has, without reading or writing.
Pairs per second count from the start of the process, with loading. Memory is the largest resident memory of the process
in the first and in the last tenth of the time after its first part was whole. With `--layers N`, the encoder is MiniLM
with its first N layers only."""
_SAMPLE_S = 0.05
_ROW_GROUP = 10_000


def main() -> None:
    """Measure what has no result, and write the section."""
    parser = place_parser(__doc__)
    parser.add_argument("--corpora", nargs="+", default=["clinc150"])
    parser.add_argument("--base", default="bundled:minilm", help="the untouched encoder (default: %(default)s)")
    parser.add_argument("--layers", type=int, metavar="N", help="keep the first N layers only: more pairs per second")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--shard-rows", type=int, default=65_536)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", nargs="+", choices=[*ROWS], default=[*ROWS], help="what to measure")
    args = parser.parse_args()
    end_with_children()
    args.place = args.work / f"bulk-{args.pairs}"
    args.encoder = args.base.rpartition(":")[2] + (f"-{args.layers}-layers" if args.layers else "")
    args.place /= args.encoder
    args.bundle = args.work / "bulk" / args.encoder
    if not args.bundle.is_dir():
        run([*SIMILE, "baseline", base(args), "--out", args.bundle])
    results = {}
    for name in args.rows:
        file = args.results / "bulk-scoring" / f"{name}-{args.pairs}-pairs-{args.encoder}-{args.precision}.json"
        if not file.is_file():
            write_result(file, ROWS[name](args))
        results[name] = json.loads(file.read_text())
    replace_section(args.out, f"bulk-scoring-{args.encoder}", section(results, args))


def base(args: argparse.Namespace) -> str:
    """Return the encoder; with ``--layers``, a folder with its first layers."""
    if not args.layers:
        return str(args.base)
    from training.torch_encoder import load_encoder

    model, folder = load_encoder(args.base).model, args.work / "bulk" / f"{args.encoder}.base"
    transformer = model[0].auto_model
    transformer.encoder.layer = transformer.encoder.layer[: args.layers]
    transformer.config.num_hidden_layers = args.layers
    model.save_pretrained(str(folder))
    return str(folder)


def generated(args: argparse.Namespace) -> Path:
    """Return a folder with the pairs in four files; write it if it is missing."""
    folder: Path = args.place.parent / "in"
    if not folder.is_dir():
        texts = [
            str(row.fields["text"])
            for corpus in args.corpora
            for row in read_rows(args.data / corpus / "corpus.jsonl.gz", wanted={"text"})
        ]
        with whole_directory(folder) as new:
            for number in range(4):
                write_pairs(new / f"{number}.parquet", texts, args.pairs // 4, number)
    return folder


def write_pairs(path: Path, texts: list[str], num: int, seed: int) -> None:
    """Write so many pairs, a row group at a time; equal arguments give equal bytes."""
    draw = random.Random(seed)
    schema = pa.schema([("id", pa.string()), ("text_a", pa.string()), ("text_b", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, num, _ROW_GROUP):
            ids = range(start, min(num, start + _ROW_GROUP))
            sides = [[varied(draw.choice(texts), draw) for _ in ids] for _ in range(2)]
            writer.write_table(pa.table([[f"{seed}-{i}" for i in ids], *sides], schema=schema))


def varied(text: str, draw: random.Random) -> str:
    """Return the text with two words swapped and a number behind it."""
    words = text.split()
    i, j = draw.randrange(len(words)), draw.randrange(len(words))
    words[i], words[j] = words[j], words[i]
    return f"{' '.join(words)} {draw.randrange(10**6)}"


def command(args: argparse.Namespace, out: Path, *options: str) -> list[str]:
    """Return the command that scores the pairs into the folder."""
    places = ["--pairs", str(generated(args)), "--out", f"{out}/", "--shard-rows", str(args.shard_rows)]
    return [*SIMILE, "score", str(args.bundle), *places, "--precision", args.precision, *options]


def in_memory(args: argparse.Namespace) -> dict[str, Any]:
    """Return the speed of the scorer alone."""
    columns = pq.read_table(generated(args), columns=["text_a", "text_b"]).slice(0, args.shard_rows)
    pairs = list(zip(*(column.to_pylist() for column in columns.columns), strict=True))
    scorer = load(args.bundle, precision=args.precision)
    scorer.score(pairs[:256])
    start = time.monotonic()
    scorer.score(pairs)
    return {"pairs": len(pairs), "seconds": time.monotonic() - start}


def local(args: argparse.Namespace) -> dict[str, Any]:
    """Return time and memory of the local engine."""
    out = emptied(args.place / "local")
    start = time.monotonic()
    process = subprocess.Popen(command(args, out))
    samples: list[tuple[float, float]] = []
    first_part_s = None
    while process.poll() is None:
        samples.append((time.monotonic() - start, resident_mib(process.pid)))
        if first_part_s is None and any(out.glob("*.parquet")):
            first_part_s = samples[-1][0]
        time.sleep(_SAMPLE_S)
    if process.returncode:
        sys.exit(f"exit code {process.returncode}")
    seconds = time.monotonic() - start
    begin = first_part_s or 0.0
    tenth = (seconds - begin) / 10
    first = [mib for at, mib in samples if begin <= at <= begin + tenth]
    last = [mib for at, mib in samples if at >= seconds - tenth and mib]
    return {
        "pairs": args.pairs,
        "seconds": seconds,
        "first_tenth_mib": max(first, default=0),
        "last_tenth_mib": max(last, default=0),
        "median_mib": statistics.median(mib for _, mib in samples),
    }


def resident_mib(pid: int) -> float:
    """Return the resident memory of the process; 0 once it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def killed(args: argparse.Namespace) -> dict[str, Any]:
    """Return how many runs were killed at random moments, and whether the bytes equal those of the undisturbed run."""
    whole, out, draw = undisturbed(args), emptied(args.place / "killed"), random.Random(0)
    shard_s = 1.0
    start, moments = time.monotonic(), []
    while not (out / "_SUCCESS").is_file():
        begin, before = time.monotonic(), num_parts(out)
        process = subprocess.Popen(command(args, out), stderr=subprocess.DEVNULL)
        wanted = before + draw.randrange(3)
        while process.poll() is None and (len(moments) >= args.kills or num_parts(out) < wanted):
            time.sleep(_SAMPLE_S)
        if num_parts(out) > before:
            shard_s = (time.monotonic() - begin) / (num_parts(out) - before)
        time.sleep(draw.uniform(0, shard_s))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            moments.append(num_parts(out))
        if process.wait() > 0:
            sys.exit(f"exit code {process.returncode}")
    equal = contents(out) == contents(whole)
    seconds = time.monotonic() - start
    return {"pairs": args.pairs, "kills": len(moments), "seconds": seconds, "parts_at_kills": moments, "equal": equal}


def undisturbed(args: argparse.Namespace) -> Path:
    """Return the folder of the local engine's parts; write what is missing of it."""
    folder: Path = args.place / "local"
    if not (folder / "_SUCCESS").is_file():
        run(command(args, folder))
    return folder


def num_parts(folder: Path) -> int:
    """Return how many parts are whole."""
    return len(list(folder.glob("*.parquet")))


def by_ray(args: argparse.Namespace) -> dict[str, Any]:
    """Return the time of the Ray engine with one actor, and whether its bytes are those of the local one."""
    whole, out = undisturbed(args), emptied(args.place / "ray")
    usage = run(command(args, out, "--engine", "ray", "--actors", "1"))
    return {"pairs": args.pairs, "seconds": usage.seconds, "equal": contents(out) == contents(whole)}


def by_ray_with_losses(args: argparse.Namespace) -> dict[str, Any]:
    """Return the time of two actors on two nodes, of which two actors and a node are killed, and what was scored."""
    from ray.cluster_utils import Cluster

    whole, out = undisturbed(args), emptied(args.place / "ray-losses")
    num = num_parts(whole)
    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    second = cluster.add_node(**node)
    losses = [
        (num // 5, kill_actor),
        (2 * num // 5, kill_actor),
        (3 * num // 5, lambda: cluster.remove_node(second, allow_graceful=False)),
    ]
    start = time.monotonic()
    options = command(args, out, "--engine", "ray", "--actors", "2")
    process = subprocess.Popen(options, env=os.environ | {"RAY_ADDRESS": cluster.address})
    for wanted, lose in losses:
        while process.poll() is None and num_parts(out) < wanted:
            time.sleep(_SAMPLE_S)
        lose()
    if process.wait():
        sys.exit(f"exit code {process.returncode}")
    seconds = time.monotonic() - start
    cluster.shutdown()
    return {"pairs": args.pairs, "seconds": seconds, "equal": contents(out) == contents(whole)}


def kill_actor() -> None:
    """Kill one of the processes that compute."""
    next(one for one in psutil.Process().children(recursive=True) if "_Actor" in cmdline(one)).kill()


def cmdline(process: psutil.Process) -> str:
    """Return the process' command line; an empty text once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of the files by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def emptied(folder: Path) -> Path:
    """Return the folder without what an earlier run has left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


ROWS = {"in-memory": in_memory, "local": local, "killed": killed, "ray": by_ray, "ray-losses": by_ray_with_losses}
"""What is measured, by the name of its row."""


def section(results: Mapping[str, Mapping[str, Any]], args: argparse.Namespace) -> str:
    """Return the section of docs/results.md."""
    layers = f" --layers {args.layers}" if args.layers else ""
    options = f"--data DIR{layers} --pairs {args.pairs} --shard-rows {args.shard_rows} --precision {args.precision}"
    rows = [list(_row(name, one)) for name, one in results.items()]
    return "\n\n".join(
        [
            origin(results.values()),
            f"```\npython benchmarks/bulk_scoring.py {options}\n```",
            ABOUT,
            table(["", "pairs", "seconds", "pairs per second", "notes"], rows),
        ]
    )


def _row(name: str, figures: Mapping[str, Any]) -> Iterator[str]:
    yield name
    yield f"{figures['pairs']:,}"
    yield f"{figures['seconds']:.1f}"
    yield "" if name == "killed" else f"{figures['pairs'] / figures['seconds']:,.0f}"
    notes = {
        "local": "memory {first_tenth_mib:,.0f} MiB in the first tenth, {last_tenth_mib:,.0f} MiB in the last",
        "killed": "killed {kills} times; bytes equal to an undisturbed run: {equal}",
        "ray-losses": "two nodes; two actors and a node were killed; bytes equal to the local engine's: {equal}",
        "ray": "one actor, with the start of Ray; bytes equal to the local engine's: {equal}",
    }
    yield notes.get(name, "").format(**figures)


if __name__ == "__main__":
    main()
