"""`simile push`: a bundle into a bucket."""

from pathlib import Path
from typing import Annotated

from pipeline.options import CommandOptions, named
from pipeline.output import print_lines


class Options(CommandOptions):
    """Options of `simile push`."""

    bundle: Annotated[Path, named("BUNDLE")]
    """The bundle to upload."""
    url: Annotated[str, named("URL")]
    """``s3://BUCKET/FOLDER``; the bundle's digest is added to it."""


def run(options: Options) -> int:
    """Upload the bundle and print its address; return the exit code."""
    from simile.artifacts.bucket import push_bundle

    print_lines(push_bundle(options.bundle, options.url))
    return 0
