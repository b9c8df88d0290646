"""`simile labels merge`: the answers of several people as target, calibration and test."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from pipeline.options import CommandOptions, named, value
from pipeline.output import print_lines, require_apart, text_table
from simile.errors import InputError
from simile.files import require_writable, whole_directory

if TYPE_CHECKING:
    from labelling.merging import MergedPair
    from labelling.report import LabelReport

_FILES = {f"{name}.jsonl" for name in ("target", "calibration", "test", "labels", "disagreements")}
_FILES |= {"report.json", "report.html"}
"""All files of the folder."""
_Share = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Options(CommandOptions):
    """Options of `simile labels merge`."""

    answers: Annotated[tuple[Path, ...], named("ANSWERS"), Field(min_length=1)]
    """Journals of `simile label` or `simile labels import`, of one person or several each."""
    pairs: Annotated[tuple[Path, ...], value("FILE")] = ()
    """The sample that was labelled, for scores, and for the share of each stratum that has a label. May be repeated."""
    adjudicated: Annotated[tuple[Path, ...], value("FILE")] = ()
    """A journal whose answers override those of all others. May be repeated."""
    shares: Annotated[tuple[_Share, _Share, _Share], value("SHARE", many=True)] = (0.4, 0.2, 0.4)
    """Shares of target, calibration and test in the random part."""
    out: Annotated[Path, value("DIR")]
    """Folder of the files: a new one, or one of an earlier merge, which is replaced as a whole."""


def run(options: Options) -> int:
    """Merge the answers, write the files, and print the report; return the exit code."""
    from labelling.answers import read_answers
    from labelling.merging import labels_by_annotator, merge, num_replaced, with_response
    from labelling.splitting import PARTS, shortage, split
    from simile.artifacts import read_sampled_pairs

    require_apart([options.out], [*options.answers, *options.pairs, *options.adjudicated])
    require_writable(options.out, directory=True)
    _require_own(options.out)
    answers, adjudicated = (
        [answer for path in paths for answer in read_answers(_existing(path))]
        for paths in (options.answers, options.adjudicated)
    )
    sample = {pair.key: pair for path in options.pairs for pair in read_sampled_pairs(path)}
    merged = merge(answers, adjudicated, sample)
    if not merged:
        raise InputError(f"{options.answers[0]}: got no answers, need some of simile label")
    _require_sampled(merged, sample, options.pairs)
    pairs = with_response(merged, sample.values())
    # Each file represents the traffic by itself: its weights count its own pairs.
    split_pairs = split(merged, dict(zip(PARTS, options.shares, strict=True)))
    files = {part: with_response(own, sample.values()) for part, own in split_pairs.items()}
    short = shortage(files, sum(one.label is not None and one.is_random for one in pairs))
    notes = [*short, *_replaced_note(num_replaced(answers)), *_no_sample_note(merged, options.pairs)]
    report = _report(pairs, files, labels_by_annotator(answers), notes)
    _write(options.out, pairs, files, report)
    print_lines(*_lines(report, options.out))
    return 0


def _require_own(out: Path) -> None:
    """Refuse to replace a folder that holds something other than merged labels."""
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if not names <= _FILES:
        raise InputError(f"{out}: holds files that are no merged labels, need a new or empty folder")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: no such file, need a journal of answers")
    return path


def _require_sampled(merged: Iterable["MergedPair"], sample: Collection[str], paths: Sequence[Path]) -> None:
    """Refuse a sample that lacks pairs of the random part: their weights would be those of another sample."""
    num = sum(one.is_random and one.pair.key not in sample for one in merged)
    if paths and num:
        got = f"got a sample without {num} of the answered pairs"
        raise InputError(f"{paths[0]}: {got}, need the file that was labelled (--pairs may be repeated)")


def _replaced_note(num: int) -> list[str]:
    if not num:
        return []
    replaced = f"{num} answers replace another one of the same person, to the same pair, in a file before"
    return [f"{replaced}: two people need two names (--annotator)"]


def _no_sample_note(merged: Iterable["MergedPair"], paths: Sequence[Path]) -> list[str]:
    if paths or all(one.pair.inclusion_probability == 1 for one in merged if one.is_random):
        return []
    taken = "weights and intervals take the labelled pairs of a stratum for all that were sampled from it"
    return [f"without the sample (--pairs), {taken}"]


def _report(
    pairs: Sequence["MergedPair"],
    files: Mapping[str, Sequence["MergedPair"]],
    labels: Mapping[str, Mapping[str, int]],
    notes: Sequence[str],
) -> "LabelReport":
    from labelling.agreement import agreement
    from labelling.report import LabelReport, balance, file_reports
    from simile.version import __version__

    labelled = sum(one.label is not None for one in pairs)
    undecided, left_out = len(pairs) - labelled, labelled - sum(map(len, files.values()))
    more = []
    if undecided:
        more.append(f"{undecided} pairs are undecided and in no file: without them, figures are of the easier pairs")
    if left_out:
        more.append(f"{left_out} pairs chosen by score are left out: they share a text with calibration or test")
    return LabelReport(
        version=__version__,
        annotators={name: len(own) for name, own in labels.items()},
        pairs=len(pairs),
        labelled=labelled,
        disputed=sum(one.is_disputed for one in pairs),
        undecided=undecided,
        agreement=agreement(labels),
        files=file_reports(files),
        left_out=left_out,
        share_of_positives=balance(pairs),
        notes=(*notes, *more),
    )


def _write(
    out: Path, pairs: Sequence["MergedPair"], files: Mapping[str, Sequence["MergedPair"]], report: "LabelReport"
) -> None:
    """Write all files of the folder, which appears whole; a file without both classes is left out."""
    from labelling.report import to_page

    disputed = [one for one in pairs if one.is_disputed or one.label is None]
    waiting = sorted(disputed, key=lambda one: one.label is not None)
    with whole_directory(out) as folder:
        for part, own in files.items():
            if len({one.label for one in own}) == 2:
                _write_rows(folder / f"{part}.jsonl", (one.row(label=one.label) for one in own))
        labelled = (one.row(label=one.label) for one in pairs if one.label is not None)
        _write_rows(folder / "labels.jsonl", labelled)
        rows = (one.row(answers=dict(one.answers), decided=one.label is not None) for one in waiting)
        _write_rows(folder / "disagreements.jsonl", rows)
        (folder / "report.json").write_text(report.model_dump_json(indent=2) + "\n", "utf-8")
        (folder / "report.html").write_text(to_page(report, disputed), "utf-8")


def _write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), "utf-8")


def _lines(report: "LabelReport", out: Path) -> list[str]:
    """Return the report in words and tables."""
    from labelling.report import told

    alpha, disagreements = report.agreement.alpha, out / "disagreements.jsonl"
    twos = [
        [f"{two.first}, {two.second}", f"{two.kappa.pairs:,}", told(two.kappa)]
        + [f"{num:,}" for num in (two.agreed, two.first_same, two.second_same)]
        for two in report.agreement.annotators
    ]
    columns = ["people", "pairs", "Cohen's kappa", "agreed", "only first: same", "only second: same"]
    files = [
        [f"{part}.jsonl", f"{entry.pairs:,}", f"{entry.same:,}", f"{entry.random:,}"]
        for part, entry in report.files.items()
    ]
    return [
        f"{report.pairs:,} pairs: {report.labelled:,} labelled, {report.undecided:,} undecided ({disagreements})",
        *(text_table(columns, twos) if twos else []),
        *([f"Krippendorff's alpha: {told(alpha)} on {alpha.pairs:,} pairs"] if alpha.pairs else []),
        *text_table(["file", "pairs", "same", "of the random part"], files),
        f"share of positives of the traffic (--prior): {told(report.share_of_positives)}",
        *(f"note: {note}" for note in report.notes),
    ]
