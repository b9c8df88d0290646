"""Write the helpdesk sample as a corpus, with and without its categories, for `training_settings.py`.

`simile mine` holds out the test sets (whole groups, and other documents of the remaining groups) and a target; the
remaining documents are the corpus. No setting is chosen by these sets.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import SIMILE, run, write_jsonl

from simile.artifacts.reading import read_rows

SAMPLE = Path(__file__).parent.parent / "examples" / "helpdesk" / "documents.jsonl"
HELD_OUT = {"dev-seen": "dev", "test-seen": "test-seen", "test-unseen": "test-unseen"}
"""Mined sets and their names in a corpus."""

Row = dict[str, Any]


def main() -> None:
    """Write ``helpdesk`` and ``helpdesk-one-category`` into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="DIR")
    out = parser.parse_args().out
    documents = [row for _, row in read_rows(SAMPLE)]
    write_corpus(documents, out / "helpdesk")
    write_corpus([{**row, "category": None} for row in documents], out / "helpdesk-one-category")


def write_corpus(documents: Sequence[Row], folder: Path) -> None:
    """Write the corpus and its held-out pairs."""
    with tempfile.TemporaryDirectory() as temporary:
        whole, mined = Path(temporary) / "documents.jsonl", Path(temporary) / "mined"
        write_jsonl(whole, documents)
        shares = ["--dev-share", "0.15", "--test-share", "0.25"]
        run([*SIMILE, "mine", whole, "--pairs", "2000", "--allow-fewer", *shares, "--out", mined])
        sets = {ours: [row for _, row in read_rows(mined / f"{name}.jsonl")] for name, ours in HELD_OUT.items()}
    texts = {row[side] for rows in sets.values() for row in rows for side in ("text_a", "text_b")}
    unseen = {row[side] for row in sets["test-unseen"] for side in ("group_a", "group_b")}
    kept = [row for row in documents if row["text"] not in texts and row["group"] not in unseen]
    for name, rows in (sets | {"corpus": kept}).items():
        write_jsonl(folder / f"{name}.jsonl.gz", rows)


if __name__ == "__main__":
    main()
