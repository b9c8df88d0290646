"""The files of an audit: the suspects as pairs to label again, and the page to read."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from labelling.audit import Suspect
from labelling.group_audit import GroupAudit, GroupFinding
from simile.files import write_whole
from simile.reports import Block, callout, examples, facts, heading, page, paragraph, table

_NUM_SHOWN = 50
"""Pairs on the page."""
_LABELS = {0: "different", 1: "same"}


def distinct(suspects: Iterable[Suspect]) -> list[Suspect]:
    """Return the first suspect of each two texts in their order: `simile label` asks for each pair once."""
    return list({(one.pair.text_a, one.pair.text_b): one for one in reversed(list(suspects))}.values())[::-1]


def write_suspects(path: Path, suspects: Iterable[Suspect]) -> None:
    """Write the suspects as JSONL in their order, whole or not at all; `simile label` reads it."""
    write_whole(path, "".join(f"{json.dumps(_record(one), ensure_ascii=False)}\n" for one in suspects))


def to_page(name: str, suspects: Sequence[Suspect], groups: GroupAudit, notes: Sequence[str] = ()) -> str:
    """Return the page with the first suspects and the groups with their texts; for documents, there are no suspects."""
    blocks: list[Block] = [callout("note", note) for note in notes]
    if suspects:
        num = sum(one.suspicion >= 0.5 for one in suspects)
        blocks += [
            facts({"pairs listed": len(suspects), "more likely wrong than right": num}),
            heading("Pairs whose label may be wrong"),
            paragraph(
                "Suspicion is the probability that the label is wrong, judged by the bundle and by the labels of the"
                " other pairs. A suspect is not an error: read it before you change it."
            ),
            examples("The most suspicious pairs", [_example(one) for one in suspects[:_NUM_SHOWN]]),
        ]
    if groups.alike or groups.divided:
        blocks += _group_blocks(groups)
    return page("Audit of labels", name, blocks)


def _record(one: Suspect) -> dict[str, object]:
    pair = one.pair
    groups = {"group_a": pair.group_a, "group_b": pair.group_b}
    return {
        "text_a": pair.text_a,
        "text_b": pair.text_b,
        "label": pair.label,
        "suspicion": round(one.suspicion, 4),
        "reason": one.reason,
        **{name: group for name, group in groups.items() if group is not None},
    }


def _example(one: Suspect) -> tuple[str, str, dict[str, str | float]]:
    figures: dict[str, str | float] = {"label": _LABELS[int(one.pair.label or 0)], "suspicion": one.suspicion}
    return one.pair.text_a, one.pair.text_b, figures | {"reason": one.reason}


def _group_blocks(groups: GroupAudit) -> list[Block]:
    return [
        heading("Groups that look like one"),
        paragraph(
            "Affinity is the mean cosine between the texts of two groups, divided by that within the groups. Near 1,"
            " the bundle cannot tell the groups apart; perhaps they should have one name."
        ),
        table(["group", "other group", "affinity", "texts", "texts of the other"], [_row(one) for one in groups.alike]),
        heading("Groups that look like two"),
        paragraph("The lower the affinity of a group's two parts, the more they look like two groups."),
        table(["group", "affinity", "one part", "other part"], [_row(one)[1:] for one in groups.divided]),
    ]


def _row(one: GroupFinding) -> tuple[str, str, float, str, str]:
    texts_a, texts_b = (
        f"{' / '.join(texts)} ({num:,} texts)" for texts, num in ((one.texts_a, one.num_a), (one.texts_b, one.num_b))
    )
    return one.group_a, one.group_b, one.affinity, texts_a, texts_b
