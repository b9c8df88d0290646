"""Inputs of bulk work, and what its parts hold."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cli import main

PLAIN = ("--device", "cpu", "--precision", "fp32")
WORDS = ("the", "card", "password", "my", "order", "late", "refund", "app")


def text(number: int) -> str:
    """Return one of 400 texts of known words."""
    return " ".join(WORDS[number // 8**digit % 8] for digit in range(3)) + f" {number % 400}"


def rows(num: int, start: int = 0) -> list[dict[str, object]]:
    """Return rows of pairs."""
    return [{"id": i, "text_a": text(i), "text_b": text(7 * i + 1), "note": f"n{i}"} for i in range(start, start + num)]


def write_jsonl(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_csv(path: Path, rows) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, rows, row_group_size: int = 100) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=row_group_size)
    return path


def write_folder(folder: Path, num: int = 300) -> Path:
    """Write a folder with a file of each format, whose ids are all different; return it."""
    folder.mkdir(parents=True)
    write_jsonl(folder / "a.jsonl", rows(num))
    write_csv(folder / "b.csv", rows(num, num))
    write_parquet(folder / "c.parquet", rows(num, 2 * num))
    return folder


def bulk(command: str, bundle, source, out, *options) -> int:
    """Run the command in this process; return its exit code."""
    flag = {"score": "--pairs", "embed": "--texts"}[command]
    return main([command, str(bundle.path), flag, str(source), "--out", str(out), *map(str, options), *PLAIN])


def parts(out: Path) -> dict[str, bytes]:
    """Return the bytes of each part, and of the manifest."""
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name[0] != "."}


def read(out: Path) -> list[dict[str, object]]:
    """Return the rows of all parts in the order of their names."""
    return [row for path in sorted(out.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
