"""`simile labels export`: pairs for another labelling tool."""

from pathlib import Path
from typing import Annotated, Literal

from pipeline.options import CommandOptions, named, value
from pipeline.output import print_lines, require_apart
from simile.files import require_writable, write_whole


class Options(CommandOptions):
    """Options of `simile labels export`."""

    pairs: Annotated[Path, named("PAIRS")]
    """The pairs to label, such as those of `simile sample`."""
    format: Annotated[Literal["label-studio", "argilla", "csv"], value("TOOL")]
    """Which tool shall read the file: ``label-studio``, ``argilla`` or ``csv`` (a spreadsheet)."""
    out: Annotated[Path, value("FILE")]
    """Where the file is written."""


def run(options: Options) -> int:
    """Write the file, and print what the tool has to be told; return the exit code."""
    from labelling.exchange import ARGILLA_SETTINGS, LABEL_STUDIO_CONFIG, exported
    from simile.artifacts import read_sampled_pairs

    require_apart([options.out], [options.pairs])
    require_writable(options.out)
    write_whole(options.out, exported(read_sampled_pairs(options.pairs), options.format))
    told = {
        "label-studio": f"Labeling interface, to paste under Settings, Code:\n{LABEL_STUDIO_CONFIG}",
        "argilla": f"Settings of the dataset, to be filled by dataset.records.from_json(FILE):\n{ARGILLA_SETTINGS}",
        "csv": "Write same, different, unsure or skip into the column answer, and your name into annotator.",
    }
    print_lines(*told[options.format].splitlines())
    return 0
