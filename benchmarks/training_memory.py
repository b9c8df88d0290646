"""Measure the memory that a training's pairs take, stage by stage, up to its first batches.

Printed is the anonymous memory of the process (RssAnon), which the system cannot give to others, above that before the
pairs were read. Pages of mapped files do not count: the system drops them when it needs room.
"""

import argparse
import gc
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from simile.artifacts import read_labelled_pairs, stored_pairs, texts_digest
from training.config import TrainConfig
from training.cross_fitting import folds
from training.fit import dataset_of
from training.inputs import TrainingInputs
from training.sampler import LengthBatchSampler

_ROW_GROUP, _GROUPS, _NEVER = 10_000, 1000, 2**60


def main() -> None:
    """Print a table of the memory after each stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--in-memory", action="store_true", help="hold the pairs as objects, whatever their number")
    args = parser.parse_args()
    if args.in_memory:
        stored_pairs.MAX_IN_MEMORY = _NEVER
    with tempfile.TemporaryDirectory() as folder:
        file = write_pairs(Path(folder) / "pairs.parquet", args.pairs)
        print(f"{args.pairs:,} pairs, {file.stat().st_size / 2**20:.0f} MiB of Parquet\n")
        print("| after | memory, MiB | bytes per pair |\n| --- | --- | --- |")
        start = memory()
        for stage in stages(file):
            gc.collect()
            used = memory() - start
            print(f"| {stage} | {used / 2**20:.0f} | {used / args.pairs:.0f} |", flush=True)


def stages(file: Path) -> Iterator[str]:
    """Do what `training.train.train` does with pairs, and yield the name of each stage when it is done."""
    config = TrainConfig(base="bundled:minilm")
    inputs = TrainingInputs(config, [read_labelled_pairs(file)])
    yield "reading"
    inputs.require_trainable()
    folds(inputs)
    yield "checks and folds"
    texts_digest(inputs.hashes)
    yield "hashes of the texts"
    dataset = dataset_of(chain(*inputs.trained_rows), file.with_name("pairs.arrow"))
    yield "the trainer's dataset"
    keywords = {"batch_size": config.batch_size, "drop_last": False, "generator": torch.Generator(), "seed": 0}
    batches = iter(LengthBatchSampler(dataset, **keywords, epochs=[range(len(dataset))]))
    for batch in (next(batches) for _ in range(100)):
        dataset[batch]
    yield "100 batches of an epoch"


def write_pairs(file: Path, num: int) -> Path:
    """Write pairs of two texts that are all different, 187 bytes of text per pair on average."""
    names = ("text_a", "text_b", "label", "group_a", "group_b")
    schema = pa.schema({name: pa.int64() if name == "label" else pa.string() for name in names})
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, num, _ROW_GROUP):
            rows = [pair(number) for number in range(start, min(num, start + _ROW_GROUP))]
            writer.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)), schema))
    return file


def pair(number: int) -> tuple[str, str, int, str, str]:
    """Return the columns of a pair; half of the pairs are positive."""
    label, group = number % 2, number % _GROUPS
    other = group if label else (group + 1) % _GROUPS
    text = "where is the card that I have ordered with the number {} and when will it be here, please"
    return text.format(f"{number}a"), text.format(f"{number}b"), label, f"group {group}", f"group {other}"


def memory() -> int:
    """Return the anonymous memory of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


if __name__ == "__main__":
    main()
