"""`simile labels audit`: the pairs whose label is probably wrong, and groups that look like one or like two."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.options import ColumnOption, named, value
from pipeline.output import print_lines, require_apart, require_file
from simile.errors import InputError

if TYPE_CHECKING:
    from labelling.audit import Suspect
    from labelling.group_audit import GroupAudit
    from simile.artifacts import PairSet
    from simile.scoring import Scorer


class Options(ColumnOption):
    """Options of `simile labels audit`."""

    pairs_file: Annotated[Path, named("PAIRS")]
    """Labelled pairs, with groups or without; or documents with groups."""
    bundle: Annotated[Path, value("BUNDLE")]
    """A bundle of encoders: tuned, also on these pairs, or an untouched one (`simile baseline`)."""
    out: Annotated[Path, value("FILE")]
    """File for the suspects in order of suspicion, as JSONL for `simile label`."""
    html: Annotated[Path | None, value("FILE")] = None
    """Write a page with the first pairs, and with the groups and their texts."""
    pairs: Annotated[int, Field(ge=1), value("N")] = 200
    """How many pairs to list."""
    seed: Annotated[int, Field(ge=0, lt=2**32), value("N")] = 0
    """Seed of the folds."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that encoders run on."""


def run(options: Options) -> int:
    """Audit the file, write the suspects and the page; return the exit code."""
    from labelling.audit import audit
    from labelling.audit_files import distinct, to_page, write_suspects
    from labelling.group_audit import questions
    from simile.files import require_writable, write_whole
    from simile.scoring import load

    require_file(options.pairs_file)
    require_apart([options.out, options.html], [options.pairs_file, options.bundle])
    require_writable(options.out, options.html)
    pairs = _pairs(options)
    scorer = load(options.bundle, device=options.device)
    groups = _audit_groups(options, pairs, scorer)
    suspects = audit(pairs, scorer, seed=options.seed) if pairs else questions(groups)
    listed = distinct(suspects)[: options.pairs]
    notes = _notes(pairs, scorer)
    write_suspects(options.out, listed)
    if options.html:
        write_whole(options.html, to_page(options.pairs_file.name, listed if pairs else [], groups, notes))
    print_lines(*(f"note: {note}" for note in notes), *_told(listed, pairs, groups))
    return 0


def _pairs(options: Options) -> "PairSet | None":
    """Return the labelled pairs of the file; None if it holds documents."""
    from pipeline.columns import read_labelled, require_columns_of
    from simile.artifacts.reading import open_source

    require_columns_of(options.columns, "pairs", "documents")
    with open_source(options.pairs_file, options.reading) as source:
        fields = next(iter(source.rows())).fields
    if options.columns.get("text", "text") in fields and "text_a" not in options.columns:
        return None
    return read_labelled([options.pairs_file], options)[0]


def _audit_groups(options: Options, pairs: "PairSet | None", scorer: "Scorer") -> "GroupAudit":
    """Return the findings among the groups of the documents, or of the pairs where they have groups."""
    from labelling.group_audit import MIN_TEXTS, audit_groups, texts_of
    from pipeline.columns import columns_of
    from simile.artifacts import read_documents

    if pairs:
        texts = texts_of(pairs) if pairs.have_groups else []
    else:
        documents = read_documents(options.pairs_file, columns_of("documents", options), options.reading)
        texts = [(one.text, one.group) for one in documents if one.group is not None]
    findings = audit_groups(texts, scorer, seed=options.seed)
    if pairs is None and not (findings.alike or findings.divided):
        got = f"{options.pairs_file}: got no group of at least {MIN_TEXTS} different texts"
        raise InputError(f"{got}, need documents with 'group' (--column group=NAME)")
    return findings


def _notes(pairs: "PairSet | None", scorer: "Scorer") -> list[str]:
    """Return what the reader must know of the bundle: whether it was trained on these texts."""
    from simile.artifacts import count_trained, read_training_texts

    trained = read_training_texts(scorer.bundle)
    if not pairs or not trained or not (num := count_trained([pairs], trained).get(pairs.name, 0)):
        return []
    return [f"the bundle was trained on {num:,} of these texts, so it may repeat some of their wrong labels"]


def _told(listed: "Sequence[Suspect]", pairs: "PairSet | None", groups: "GroupAudit") -> list[str]:
    """Return the lines that sum the audit up."""
    lines = []
    if pairs:
        num = sum(one.suspicion >= 0.5 for one in listed)
        lines.append(
            f"{len(listed):,} of {len(pairs.rows):,} pairs listed; {num:,} labels more likely wrong than right"
        )
    lines += [f"look like one: {one.group_a}, {one.group_b} ({one.affinity:.3f})" for one in groups.alike[:5]]
    lines += [f"looks like two: {one.group_a} ({one.affinity:.3f})" for one in groups.divided[:5]]
    return lines
