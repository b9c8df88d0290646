"""Mining from files to a folder: pairs, held-out sets, report."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mining.config import MineConfig
from mining.mine import mine, write_mined
from mining.report.figures import describe
from mining.report.page import to_page
from pipeline.columns import Columns, document_columns, read
from simile.artifacts import MiningReport, read_documents
from simile.errors import InputError
from simile.files import whole_directory, write_whole
from simile.scoring import Scorer

_REPORT = "report.json"
_WRITTEN = r"report\.(json|html)|(pairs|phase[123]|triplets|(dev|test)-(seen|unseen))\.jsonl"


def _is_ours(out: Path) -> bool:
    """Return whether the folder is empty, or holds only what mining writes."""
    if not out.is_dir():
        return False
    names = {path.name for path in out.iterdir()}
    return not names or (_REPORT in names and all(re.fullmatch(_WRITTEN, name) for name in names))


@dataclass(frozen=True, slots=True)
class MineInputs:
    """Files that are mined from."""

    documents: Path
    columns: Columns = field(default_factory=dict)
    """The files' column name by our field name."""
    target: Path | None = None
    """Pairs whose difficulty the mined pairs should match."""
    held_out: Sequence[Path] = ()
    """Pairs whose texts are kept out of the mined pairs."""
    positives: Path | None = None
    """Pairs known to mean the same, in place of groups."""


def mine_to(out: Path, inputs: MineInputs, config: MineConfig, baseline: Scorer | None = None) -> MiningReport:
    """Write the pairs, the held-out sets and the report to ``out``, whole or not at all; return the report.

    Raises:
        InputError: the inputs cannot be used, or ``out`` holds something else.
    """
    if out.exists() and not _is_ours(out):
        raise InputError(f"{out}: holds files that are no mined pairs, need a new or empty folder")
    columns = inputs.columns
    mined = mine(
        read_documents(inputs.documents, document_columns(columns)),
        config,
        read(inputs.target, columns) if inputs.target else None,
        held_out=[text for path in inputs.held_out for pair in read(path, columns).texts for text in pair],
        positives=read(inputs.positives, columns) if inputs.positives else None,
        baseline=baseline,
    )
    report = describe(mined)
    with whole_directory(out) as folder:
        write_mined(mined, folder)
        write_whole(folder / _REPORT, report.model_dump_json(indent=2) + "\n")
        write_whole(folder / "report.html", to_page(report, mined))
    return report
