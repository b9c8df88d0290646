"""`simile pull`: a bundle out of a bucket."""

from pathlib import Path
from typing import Annotated

from pipeline.options import CommandOptions, named
from pipeline.output import print_lines


class Options(CommandOptions):
    """Options of `simile pull`."""

    url: Annotated[str, named("URL")]
    """Address that `simile push` printed: ``s3://BUCKET/FOLDER/DIGEST``."""
    out: Annotated[Path, named("DIR")]
    """Where the bundle is written."""


def run(options: Options) -> int:
    """Download the bundle and print its identity; return the exit code."""
    from simile.artifacts.bucket import pull_bundle
    from simile.scoring import load

    print_lines(pull_bundle(options.url, options.out, check=load))
    return 0
