"""Mining from files to a folder: pairs, held-out sets, report."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mining.config import MineConfig
from mining.mine import mine, write_mined
from mining.report import describe, to_page
from simile.artifacts import read_documents, read_pairs
from simile.errors import InputError
from simile.files import whole_directory, write_whole
from simile.scoring import Scorer

_REPORT = "report.json"
_WRITTEN = r"report\.(json|html)|(pairs|(dev|test)-(seen|unseen))\.jsonl"


def _is_ours(out: Path) -> bool:
    """Whether the folder is empty, or holds what mining writes and nothing else."""
    if not out.is_dir():
        return False
    names = {path.name for path in out.iterdir()}
    return not names or (_REPORT in names and all(re.fullmatch(_WRITTEN, name) for name in names))


def mine_to(
    documents: Path,
    out: Path,
    config: MineConfig,
    *,
    columns: Mapping[str, str] | None = None,
    target: Path | None = None,
    baseline: Scorer | None = None,
    held_out: Sequence[Path] = (),
) -> dict[str, Any]:
    """Return the mining report; the folder ``out`` holds it, the pairs and the held-out sets, whole or not at all.

    Raises:
        InputError: the documents or the target cannot be used, or ``out`` holds something else.
    """
    if out.exists() and not _is_ours(out):
        raise InputError(f"{out}: holds files that are no mined pairs, need a new or empty folder")
    read = read_documents(documents, columns)
    mined = mine(
        read,
        config,
        read_pairs(target) if target else None,
        held_out=[text for path in held_out for pair in read_pairs(path).texts for text in pair],
    )
    report = describe(mined, baseline, config.model_dump(mode="json"))
    with whole_directory(out) as folder:
        write_mined(mined, folder)
        write_whole(folder / _REPORT, json.dumps(report, indent=2) + "\n")
        write_whole(folder / "report.html", to_page(report, mined))
    return report
