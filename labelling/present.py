"""Labels that pairs have already, which an audit shows to be confirmed or changed."""

from dataclasses import dataclass
from pathlib import Path

from simile.artifacts.pairs import optional_number, text_names
from simile.artifacts.reading import read_rows
from simile.artifacts.rows import DEFAULTS, ReadOptions
from simile.artifacts.sampled_pairs import SampledPair
from simile.errors import InputError


@dataclass(frozen=True, slots=True)
class PresentLabel:
    """The label of a pair."""

    label: int
    """1 (same) or 0 (different)."""
    reason: str
    """Why the audit suspects it; empty where the file does not say."""


def read_present_labels(path: Path, options: ReadOptions = DEFAULTS) -> dict[str, PresentLabel]:
    """Return the column ``label``, with the column ``reason``, by the pair's key; nothing where there is no label.

    The pairs are those that `simile.artifacts.sampled_pairs.read_sampled_pairs` accepts.

    Raises:
        InputError: a label is neither 0 nor 1.
    """
    labels: dict[str, PresentLabel] = {}
    for row in read_rows(path, options=options):
        names, label = text_names(row.fields), optional_number(row, "label")
        if names is None or label is None:
            continue
        if label not in (0, 1):
            raise InputError(f"{row.where}: got label {row.fields['label']!r:.60}, need 0 or 1, or no column label")
        pair = SampledPair(str(row.fields[names[0]]), str(row.fields[names[1]]))
        labels[pair.key] = PresentLabel(int(label), str(row.fields.get("reason") or ""))
    return labels
