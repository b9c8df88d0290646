"""`simile labels import`: answers that were given in another labelling tool, as a journal."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import field_validator

from pipeline.options import CommandOptions, named, require_encoding, value
from pipeline.output import print_lines, require_apart
from simile.errors import InputError
from simile.files import require_writable, write_whole


class Options(CommandOptions):
    """Options of `simile labels import`."""

    file: Annotated[Path, named("FILE")]
    """What the tool has exported: Label Studio's JSON, the records of Argilla's ``to_json`` or ``to_list``, or the
    spreadsheet as CSV."""
    format: Annotated[Literal["label-studio", "argilla", "csv"], value("TOOL")]
    """Which tool has written the file: ``label-studio``, ``argilla`` or ``csv``."""
    annotator: Annotated[str, value("NAME")] = ""
    """Name of the person where the file has none."""
    delimiter: Annotated[Literal["comma", "semicolon", "tab"], value("CHARACTER")] = "comma"
    """Character between the columns of CSV, which is a semicolon where Excel writes decimal commas."""
    encoding: Annotated[str | None, value("NAME")] = None
    """Encoding of CSV, such as ``cp1252`` (default: UTF-8)."""
    out: Annotated[Path, value("ANSWERS")]
    """Where the journal is written, for `simile labels merge`."""

    _is_known_encoding = field_validator("encoding")(require_encoding)


def run(options: Options) -> int:
    """Write the journal, and print what is in it; return the exit code."""
    from labelling.answers import journal_line
    from labelling.exchange import imported
    from simile.artifacts import ReadOptions

    require_apart([options.out], [options.file])
    require_writable(options.out)
    if not options.file.is_file():
        raise InputError(f"{options.file}: no such file")
    # A file that does not say when an answer was given is at least as old as its last change.
    time = datetime.fromtimestamp(options.file.stat().st_mtime, UTC).isoformat(timespec="seconds")
    characters = {"comma": ",", "semicolon": ";", "tab": "\t"}
    reading = ReadOptions(delimiter=characters[options.delimiter], encoding=options.encoding)
    answers = imported(options.file, options.format, time=time, annotator=options.annotator, options=reading)
    if not answers:
        raise InputError(f"{options.file}: got no answers, need some")
    write_whole(options.out, "".join(map(journal_line, answers)))
    people = len({answer.annotator for answer in answers})
    print_lines(f"{len(answers):,} answers by {people} {'person' if people == 1 else 'people'}")
    return 0
