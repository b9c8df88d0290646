"""What `simile labels merge` reports: agreement, the files, what is undecided, and the class balance of the traffic."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from labelling.agreement import Agreement, Coefficient
from labelling.estimation import Estimate, sample_of, share_of_positives
from labelling.merging import MergedPair
from simile import reports
from simile.artifacts.strict import StrictModel
from simile.reports import Block, Value


class FileReport(StrictModel):
    """The pairs of one file."""

    pairs: int
    same: int
    random: int
    """Number of pairs of the random part."""


class LabelReport(StrictModel):
    """The content of ``report.json``."""

    schema_version: Literal[1] = 1
    version: str
    annotators: dict[str, int]
    """Number of labels by person."""
    pairs: int
    """Number of answered pairs."""
    labelled: int
    """Number of pairs with a label."""
    disputed: int
    """Number of pairs with different answers."""
    undecided: int
    """Number of pairs that wait for an adjudicator."""
    agreement: Agreement
    files: dict[str, FileReport]
    left_out: int
    """Number of labelled pairs that are in none of target, calibration and test."""
    share_of_positives: Estimate
    """Class balance of the traffic, which ``--prior`` should be, from the random part."""
    notes: tuple[str, ...]
    """What whoever uses the files has to know."""


def balance(pairs: Sequence[MergedPair]) -> Estimate:
    """Return the share of positives of the traffic, by the labelled pairs of the random part."""
    chosen = [one for one in pairs if one.is_random and one.label is not None]
    if not chosen:
        return Estimate(value=None, low=None, high=None)
    inclusion_P = np.array([one.pair.inclusion_probability for one in chosen])
    label_P = np.array([one.label for one in chosen], dtype=np.float64)
    return share_of_positives(sample_of(inclusion_P, [one.pair.stratum for one in chosen]), label_P)


def file_reports(files: Mapping[str, Sequence[MergedPair]]) -> dict[str, FileReport]:
    """Return the counts of each file."""
    return {
        part: FileReport(
            pairs=len(pairs), same=sum(one.label == 1 for one in pairs), random=sum(one.is_random for one in pairs)
        )
        for part, pairs in files.items()
    }


def told(estimate: Estimate | Coefficient) -> str:
    """Return a figure with its interval, or that there is none."""
    if estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.4f}"
    return f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"


def to_page(report: LabelReport, disputed: Sequence[MergedPair]) -> str:
    """Return the report as a self-contained HTML page with the disputed pairs."""
    num, share = len(report.annotators), report.share_of_positives
    blocks: list[Block] = [
        reports.facts({"pairs": report.pairs, "labelled": report.labelled, "undecided": report.undecided}),
        *(reports.callout("note", note) for note in report.notes),
        reports.heading("Class balance of the traffic"),
        reports.table(["share of positives", "low", "high"], [(share.value, share.low, share.high)]),
        *(_agreement(report.agreement) if num > 1 else []),
        reports.heading("Files"),
        reports.table(
            ["file", "pairs", "same", "of the random part"],
            [(part, entry.pairs, entry.same, entry.random) for part, entry in report.files.items()],
        ),
        reports.heading("Disputed and undecided pairs"),
        reports.examples(
            "Pairs and their answers", [(one.pair.text_a, one.pair.text_b, dict(one.answers)) for one in disputed]
        ),
    ]
    return reports.page("Labels", f"{report.pairs:,} pairs by {num} {'person' if num == 1 else 'people'}", blocks)


def _agreement(agreement: Agreement) -> list[Block]:
    rows = [
        (two.first, two.second, *_cells(two.kappa), two.agreed, two.first_same, two.second_same)
        for two in agreement.annotators
    ]
    columns = ["first", "second", "kappa", "low", "high", "pairs", "agreed", "only first: same", "only second: same"]
    return [
        reports.heading("Agreement"),
        reports.table(["Krippendorff's alpha", "low", "high"], [_cells(agreement.alpha)[:3]]),
        reports.table(columns, rows, caption="Cohen's kappa and the pairs on which two people disagree"),
    ]


def _cells(one: Coefficient) -> tuple[Value, ...]:
    return one.value, one.low, one.high, one.pairs
