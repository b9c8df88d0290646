"""`simile push`: a bundle into a bucket or a registry."""

from pathlib import Path
from typing import Annotated

from pipeline.options import CommandOptions, named
from pipeline.output import print_lines


class Options(CommandOptions):
    """Options of `simile push`."""

    bundle: Annotated[Path, named("BUNDLE")]
    """The bundle to upload."""
    url: Annotated[str, named("URL")]
    """``s3://BUCKET/FOLDER``, to which the bundle's digest is added, or ``oci://REGISTRY/NAME:TAG`` (default tag:
    ``latest``)."""


def run(options: Options) -> int:
    """Upload the bundle and print its address; return the exit code."""
    if options.url.startswith("oci:"):
        from simile.artifacts.registry import push_image as push
    else:
        from simile.artifacts.bucket import push_bundle as push

    print_lines(push(options.bundle, options.url))
    return 0
