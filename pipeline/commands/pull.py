"""`simile pull`: a bundle out of a bucket or a registry."""

from functools import partial
from pathlib import Path
from typing import Annotated

from pipeline.options import CommandOptions, named, value
from pipeline.output import print_lines


class Options(CommandOptions):
    """Options of `simile pull`."""

    url: Annotated[str, named("URL")]
    """Address that `simile push` printed: ``s3://BUCKET/FOLDER/DIGEST`` or ``oci://REGISTRY/NAME@DIGEST``; in a
    registry also ``oci://REGISTRY/NAME:TAG``."""
    out: Annotated[Path, named("DIR")]
    """Where the bundle is written."""
    verify_key: Annotated[Path | None, value("PUBLIC.pem")] = None
    """Public key (PEM) by whose private key the bundle must be signed."""


def run(options: Options) -> int:
    """Download the bundle and print its identity; return the exit code."""
    from simile.scoring import load

    if options.url.startswith("oci:"):
        from simile.artifacts.registry import pull_image as pull
    else:
        from simile.artifacts.bucket import pull_bundle as pull

    print_lines(pull(options.url, options.out, check=partial(load, verify_key=options.verify_key)))
    return 0
