"""Sketches as files: one per shard of the documents, and the checks that those of all shards belong together.

A sketch is an archive of NumPy (npz, not compressed). Its texts are JSON, so that nothing in it is executed.
"""

import io
import json
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mining.corpus.labels import KINDS, NUM_RANGES, Kind, LabelTable
from mining.corpus.sample import Entry, Sample
from mining.corpus.sketch import Sampling, Sketch, sketch_of
from simile.artifacts import Document, Names, ReadOptions, Shard, open_source, read_documents
from simile.artifacts.reading import STDIN
from simile.errors import InputError
from simile.files import alone, require_writable, sha256_bytes, write_whole
from simile.version import __version__

SUFFIX = ".sketch"
_DIFFERENCES = {
    "version": "the format",
    "simile": "the version of Simile",
    "unicode": "the version of Python",
    "max_documents": "--pairs",
    "seed": "--seed",
    "positives": "--positives",
    "shards": "the number of shards",
    "files": "the documents",
    "reading": "--column, --format, --delimiter, --quote or --encoding",
}
"""What sketches may differ in, by the setting, in the order in which differences are reported."""
_DAMAGES = (OSError, ValueError, LookupError, EOFError, TypeError, AttributeError, zipfile.BadZipFile)


class SketchSettings(BaseModel):
    """All that sketches must have in common to be joined."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    simile: str = __version__
    unicode: str = unicodedata.unidata_version
    """Version of Python's character tables, on which words and keys of texts depend."""
    max_documents: int = Field(ge=1)
    seed: int = Field(ge=0)
    positives: str | None
    """Hash of the keys of the texts that are always sampled, if there are any."""
    shards: int = Field(ge=1)
    files: tuple[tuple[str, int], ...]
    """Names and sizes of the files of documents."""
    reading: dict[str, str | None]
    """Columns by our names, and how the files are read."""


def settings_of(
    path: Path, columns: Mapping[str, str], options: ReadOptions, sampling: Sampling, shards: int
) -> SketchSettings:
    """Return the settings of the sketches of these documents."""
    if str(path) in STDIN or path.is_fifo():
        raise InputError(f"{path}: is a stream, need files or a folder, of which each shard can read its part")
    with open_source(path, options) as source:
        files = tuple((part.path.name, part.path.stat().st_size) for part in source.parts)
    how = {name: getattr(options, name) for name in ("format", "delimiter", "quote", "encoding")}
    return SketchSettings(**_sampled(sampling), shards=shards, files=files, reading={**columns, **how})


def _sampled(sampling: Sampling) -> dict[str, Any]:
    """Return the settings that say how documents are sampled."""
    keys = None if sampling.required is None else "\n".join(sorted(sampling.required))
    positives = None if keys is None else sha256_bytes(keys.encode(errors="surrogatepass"))
    return {"max_documents": sampling.max_documents, "seed": sampling.seed, "positives": positives}


def sketch_path(folder: Path, shard: Shard) -> Path:
    """Return the path of the shard's sketch."""
    return folder / f"{shard.number}-of-{shard.count}{SUFFIX}"


def sketch_shard(
    documents: Path, shard: Shard, folder: Path, sampling: Sampling, columns: Mapping[str, str], options: ReadOptions
) -> Path:
    """Read one shard of the documents and write its sketch into the folder, whole or not at all; return its path."""
    path = sketch_path(folder, shard)
    settings = settings_of(documents, columns, options, sampling, shard.count)
    require_writable(path)
    with alone(path):
        write_sketch(path, shard, sketch_of(read_documents(documents, columns, options, shard), sampling), settings)
    return path


def write_sketch(path: Path, shard: Shard, sketch: Sketch, settings: SketchSettings) -> None:
    """Write the sketch of the shard, whole or not at all."""
    labels, sample, entries = sketch.labels, sketch.sample, sketch.sample.entries()
    counts = {
        "num_read": sketch.num_read,
        "num_cut": sketch.num_cut,
        "num_without": labels.num_without,
        "kind": labels.kind,
        "labels": labels.labels,
        "names": {kind: [labels.names[kind].spellings, labels.names[kind].missing] for kind in KINDS},
        "max_per_group": sample.max_per_group,
        "end": sample.end,
        "has_groups": sample.has_groups,
    }
    rows = [[row.id, row.text, row.category, row.group, required] for _, _, row, required in entries]
    words = sorted(sketch.frequency)
    texts = {i: labels.texts_in(i) for i in range(NUM_RANGES)}
    arrays = {
        "settings": _packed({"number": shard.number, "settings": settings.model_dump(mode="json")}),
        "counts": _packed(counts),
        "sizes": labels.size_G,
        "words": _packed(words),
        "frequencies": np.array([sketch.frequency[word] for word in words], dtype=np.int64),
        "documents": _packed(rows),
        "priorities": np.array([entry.priority for entry in entries], dtype=np.uint64),
        "numbers": np.array([entry.number for entry in entries], dtype=np.int64),
        **{f"hashes-{i}": hash_N for i, (hash_N, _) in texts.items()},
        **{f"codes-{i}": code_N for i, (_, code_N) in texts.items()},
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_whole(path, buffer.getvalue())


def sketch_paths(path: Path) -> list[Path]:
    """Return the sketches in a folder that holds nothing else; none if the path is no such folder."""
    paths = sorted(entry for entry in path.iterdir() if entry.name[0] not in "._") if path.is_dir() else []
    return paths if all(entry.suffix == SUFFIX for entry in paths) else []


@contextmanager
def open_sketches(paths: Sequence[Path], sampling: Sampling) -> Iterator[Iterator[Sketch]]:
    """Give the sketches in the documents' order, each read when its turn comes.

    Raises:
        InputError: a sketch is missing, there twice, damaged, or made with other settings.
    """
    with ExitStack() as stack:
        sketches: dict[int, Path] = {}
        archives: dict[int, Any] = {}
        settings = None
        for path in paths:
            with _blaming(path):
                file = stack.enter_context(path.open("rb"))
                archive = stack.enter_context(np.load(file, allow_pickle=False))
                head = _unpacked(archive["settings"])
                number, own = int(head["number"]), SketchSettings.model_validate(head["settings"])
            settings = settings or own
            now = SketchSettings(**_sampled(sampling), shards=own.shards, files=own.files, reading=own.reading)
            _require_equal(path, own, "this call", now)
            _require_equal(path, own, str(paths[0]), settings)
            if number in sketches:
                raise InputError(f"{path}: is the sketch of shard {number}, as {sketches[number]} is; need each once")
            sketches[number], archives[number] = path, archive
        count = settings.shards if settings else 0
        if missing := sorted({*range(1, count + 1)} - sketches.keys()):
            got = f"{paths[0].parent}: got {len(sketches)} of {count} sketches"
            raise InputError(f"{got}, need the one of shard {missing[0]} too (--sketch {missing[0]}/{count})")
        yield (_sketch(sketches[number], archives[number], sampling) for number in sorted(sketches))


def _sketch(path: Path, archive: Any, sampling: Sampling) -> Sketch:
    """Return the sketch; hashes of texts are read as they are needed."""

    def texts_in(i: int) -> tuple[Any, Any]:
        with _blaming(path):
            return archive[f"hashes-{i}"], archive[f"codes-{i}"]

    with _blaming(path):
        counts = _unpacked(archive["counts"])
        names: dict[Kind, Names] = {kind: Names(kind) for kind in KINDS}
        for kind in KINDS:
            names[kind].join(*counts["names"][kind])
        sample = Sample(sampling.max_documents, sampling.seed, by_group=sampling.required is None)
        columns = (archive[name].tolist() for name in ("priorities", "numbers"))
        entries = (
            Entry(priority, number, Document(id_, text, category, group), required)
            for priority, number, (id_, text, category, group, required) in zip(
                *columns, _unpacked(archive["documents"]), strict=True
            )
        )
        sample.join(entries, counts["max_per_group"], counts["end"], has_groups=counts["has_groups"])
        frequency = Counter(dict(zip(_unpacked(archive["words"]), archive["frequencies"].tolist(), strict=True)))
        labels = LabelTable(
            names,
            counts["num_read"],
            counts["num_without"],
            counts["kind"],
            counts["labels"],
            archive["sizes"],
            texts_in,
        )
        return Sketch(counts["num_read"], counts["num_cut"], frequency, labels, sample)


def _require_equal(path: Path, own: SketchSettings, other: str, settings: SketchSettings) -> None:
    """Refuse a sketch with other settings, by the first difference."""
    for name, what in _DIFFERENCES.items():
        if (first := getattr(own, name)) != (second := getattr(settings, name)):
            got = f"({first!r:.60} and {second!r:.60})"
            raise InputError(f"{path}: differs from {other} in {what} {got}, need sketches made with the same")


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Refuse the file where reading it fails."""
    try:
        yield
    except _DAMAGES as error:
        reason = "its settings" if isinstance(error, ValidationError) else str(error)
        raise InputError(f"{path}: is no whole sketch ({reason:.100}), make it again") from error


def _packed(value: object) -> Any:
    return np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)


def _unpacked(packed: Any) -> Any:
    return json.loads(packed.tobytes())
