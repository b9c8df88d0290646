"""Bulk work of the commands `score` and `embed`: from the options to parts and the manifest ``_SUCCESS``."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.options import ColumnOption, CommandOptions, ScoringOptions, parse_share, value
from pipeline.output import require_apart
from simile.errors import InputError
from simile.progress import Progress, say

# The work needs PyArrow, which other uses of the commands do not.
if TYPE_CHECKING:
    from pipeline.engines import Engine
    from simile.artifacts.bulk_manifest import BulkWork
    from simile.bulk.storage import Stored
    from simile.bulk.tables import Reading, Shard

INDEX, SHARDS = "JOB_COMPLETION_INDEX", "SIMILE_SHARDS"
"""Variables of a pod of an Indexed Job; Kubernetes sets the first, from 0."""
_LABELS = {"score": "scoring", "embed": "embedding"}
"""What the progress bar of a command is named."""


class BulkOptions(CommandOptions):
    """Options of the commands whose input may be larger than one machine takes."""

    shard: Annotated[str | None, value("I/N")] = None
    """Compute the I-th of N shares of the parts (default: from ``JOB_COMPLETION_INDEX`` and ``SIMILE_SHARDS``)."""
    shard_rows: Annotated[int, Field(ge=1)] = 65_536
    """Rows per part file: what is computed again after a kill."""
    engine: Literal["local", "ray"] = "local"
    """Where a folder is computed: in this process, or by actors of a Ray cluster."""
    actors: Annotated[int | None, Field(ge=1)] = None
    """Actors of the Ray cluster (default: one per node, or one per ``--num-gpus``)."""
    num_gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs per actor of the Ray cluster."""


class BulkCommandOptions(ScoringOptions, ColumnOption, BulkOptions):
    """All options of such a command."""


def is_bulk(source: str, out: str | None) -> bool:
    """Return whether the output is a folder: by its name, because it is one, or because of an input of several files.

    A folder of this machine with the name of a JSON Lines file as output becomes one file, as it always did.
    """
    from simile.bulk.storage import is_glob, is_url

    if out is None:
        return False
    names_file = Path(out).suffix.lower() in (".jsonl", ".ndjson", ".json") and not os.path.isdir(out)
    is_folder = is_url(out) or out.endswith("/") or os.path.isdir(out)
    has_several = is_url(source) or is_glob(source)
    if has_several and names_file and not is_folder:
        raise InputError(f"{out}: got a file to write {source} to, need a folder, such as {Path(out).stem}/")
    return is_folder or has_several or (os.path.isdir(source) and not names_file)


def require_no_bulk_options(options: BulkOptions) -> None:
    """Refuse, by an `InputError`, options of folders where the output is no folder."""
    for name in BulkOptions.model_fields:
        if getattr(options, name) != BulkOptions.model_fields[name].default:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"got {flag} without a folder to write to, need --pairs and a folder as --out (out/)")


def _require_engine_options(options: BulkOptions) -> None:
    if options.engine == "local" and (options.actors or options.num_gpus):
        raise InputError("got --actors or --num-gpus with the local engine, need --engine ray for them")


def run_bulk(options: BulkCommandOptions, source: str, out: str, work: "BulkWork", bundle: str) -> int:
    """Compute this process's share of the parts, and write ``_SUCCESS`` if all are whole; return the exit code."""
    from simile.bulk.figures import reported
    from simile.bulk.parts import whole_parts
    from simile.bulk.storage import storage_of
    from simile.bulk.worker import BulkJob

    _require_engine_options(options)
    index, num_shares = share(options.shard, os.environ)
    source, out = source.removeprefix("file://"), out.removeprefix("file://")
    files = storage_of(source).files(source)
    _require_apart(files, source, out)
    storage_of(out).require_writable(out)
    shards = _shards(files, _reading(options, work))
    whole = whole_parts(out, shards, work)
    mine = shards[index - 1 :: num_shares]
    todo = [shard for shard in mine if shard.part not in whole]
    precision = next((part.precision for part in whole.values()), None)
    key = str(options.verify_key) if options.verify_key else None
    job = BulkJob(work, bundle, options.device, options.precision, key, precision, out)
    if len(whole) < len(shards):
        _remove_success(out)
    if todo:
        unit = "pairs" if work.command == "score" else "texts"
        num_rows, num_todo = (sum(shard.num_rows for shard in shards) for shards in (mine, todo))
        progress = Progress(_LABELS[work.command], num_rows, unit)
        with reported(work.command, work.bundle, f"{index}-{num_shares}") as report, progress:
            progress.skip(num_rows - num_todo)
            rows, left = 0, len(todo)

            def on_rows(num: int) -> None:
                nonlocal rows
                rows += num
                progress.advance(num)
                report(rows, left)

            for _ in _engine(options)(job, todo, on_rows):
                left -= 1
                report(rows, left)
    _finish(out, shards, work)
    return 0


def share(option: str | None, environ: Mapping[str, str]) -> tuple[int, int]:
    """Return which of how many shares this process computes, from 1; without an option, by the Job's variables."""
    if option is not None:
        return parse_share("--shard", option)
    if INDEX not in environ and SHARDS not in environ:
        return 1, 1
    index, num = environ.get(INDEX, ""), environ.get(SHARDS, "")
    if not (index.isdecimal() and num.isdecimal() and int(index) < int(num)):
        got = f"got {INDEX}={index} and {SHARDS}={num}"
        raise InputError(f"{got}, need both numbers (the shards are the Job's completions)")
    return int(index) + 1, int(num)


def facts_of(options: BulkCommandOptions) -> tuple[dict[str, str], dict[str, str]]:
    """Return the columns and the ways of reading that options gave, as parts state them."""
    names = ("format", "delimiter", "quote", "encoding")
    return options.columns, {
        name: given for name, given in asdict(options.reading).items() if name in names and given is not None
    }


def _reading(options: BulkCommandOptions, work: "BulkWork") -> "Reading":
    from simile.bulk.tables import Reading

    texts = ("text_a", "text_b") if work.command == "score" else ("text",)
    return Reading(texts, options.columns, options.reading, options.shard_rows)


def _shards(files: "list[Stored]", reading: "Reading") -> "list[Shard]":
    """Return the shards of all files, and say how many rows each has."""
    from simile.bulk.tables import read_tables
    from simile.reports.numerals import counted

    shards: list[Shard] = []
    with Progress("reading", None, "rows") as progress:
        for table, own in read_tables(files, reading, progress.advance):
            shards += own
            texts = " and ".join(map(repr, table.texts))
            counts = f"{counted(table.num_rows, 'row')} in {counted(len(own), 'shard')}"
            say(f"{table.file.address}: {counts}, texts in {texts}")
    return shards


def _engine(options: BulkOptions) -> "Engine":
    if options.engine == "ray":
        from pipeline.engines import ray

        return partial(ray.run, actors=options.actors, gpus_per_actor=options.num_gpus)
    from pipeline.engines import local

    return local.run


def _require_apart(files: "list[Stored]", source: str, out: str) -> None:
    """Refuse an output folder that is read as input."""
    from simile.bulk.storage import is_glob, is_url

    if not is_url(source) and not is_url(out):
        inputs = [Path(file.address) for file in files]
        require_apart([Path(out)], inputs if is_glob(source) else [Path(source)])
    folder, inside = f"{out.rstrip('/')}/", f"{source.rstrip('/')}/"
    if any(file.address.startswith(folder) for file in files) or (is_url(source) and folder.startswith(inside)):
        raise InputError(f"{out}: is read as input ({source}), need another place to write to")


def _remove_success(out: str) -> None:
    from simile.bulk.parts import SUCCESS, address_in
    from simile.bulk.storage import storage_of

    storage_of(out).remove(address_in(out, SUCCESS))


def _finish(out: str, shards: "list[Shard]", work: "BulkWork") -> None:
    """Write the manifest if all parts are whole now; otherwise say how many are left to other processes."""
    from simile.bulk.parts import SUCCESS, address_in, whole_parts, write_success
    from simile.reports.numerals import counted

    whole = whole_parts(out, shards, work)
    if len(whole) < len(shards):
        say(f"{out}: {len(whole):,} of {len(shards):,} parts are whole; other processes write the others")
        return
    manifest = write_success(out, shards, work, whole)
    counts = f"{counted(manifest.rows, 'row')} in {counted(len(manifest.parts), 'part')}"
    computed = f"{counted(manifest.texts, 'text')} computed"
    say(f"{address_in(out, SUCCESS)}: {counts}, {computed}")
