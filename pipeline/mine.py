"""Mining from files to a folder: pairs, held-out sets, report."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mining.config import MineConfig
from mining.mine import mine, write_mined
from mining.report.figures import describe
from mining.report.page import to_page
from simile.artifacts import MiningReport, read_documents, read_pairs
from simile.errors import InputError
from simile.files import whole_directory, write_whole
from simile.scoring import Scorer

_REPORT = "report.json"
_WRITTEN = r"report\.(json|html)|(pairs|phase[123]|triplets|(dev|test)-(seen|unseen))\.jsonl"


def _is_ours(out: Path) -> bool:
    """Whether the folder is empty, or holds what mining writes and nothing else."""
    if not out.is_dir():
        return False
    names = {path.name for path in out.iterdir()}
    return not names or (_REPORT in names and all(re.fullmatch(_WRITTEN, name) for name in names))


@dataclass(frozen=True, slots=True)
class MineInputs:
    """The files that are mined from."""

    documents: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    """Our name for each column of the documents that is named otherwise."""
    target: Path | None = None
    """Pairs as hard as which to mine."""
    held_out: Sequence[Path] = ()
    """Pairs whose texts are kept out."""
    positives: Path | None = None
    """Pairs known to mean the same, in place of groups."""


def mine_to(out: Path, inputs: MineInputs, config: MineConfig, baseline: Scorer | None = None) -> MiningReport:
    """Return the mining report; the folder ``out`` holds it, the pairs and the held-out sets, whole or not at all.

    Raises:
        InputError: the inputs cannot be used, or ``out`` holds something else.
    """
    if out.exists() and not _is_ours(out):
        raise InputError(f"{out}: holds files that are no mined pairs, need a new or empty folder")
    mined = mine(
        read_documents(inputs.documents, inputs.columns),
        config,
        read_pairs(inputs.target) if inputs.target else None,
        held_out=[text for path in inputs.held_out for pair in read_pairs(path).texts for text in pair],
        positives=read_pairs(inputs.positives) if inputs.positives else None,
        baseline=baseline,
    )
    report = describe(mined)
    with whole_directory(out) as folder:
        write_mined(mined, folder)
        write_whole(folder / _REPORT, report.model_dump_json(indent=2) + "\n")
        write_whole(folder / "report.html", to_page(report, mined))
    return report
