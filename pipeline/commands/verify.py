"""`simile verify`: whether a bundle is signed by a key."""

from pathlib import Path
from typing import Annotated

from pipeline.options import CommandOptions, named, value
from pipeline.output import print_lines


class Options(CommandOptions):
    """Options of `simile verify`."""

    bundle: Annotated[Path, named("BUNDLE")]
    """The bundle to verify."""
    key: Annotated[Path, value("PUBLIC.pem")]
    """The public key (PEM) by whose private key the bundle must be signed."""


def run(options: Options) -> int:
    """Print the identity of the bundle if its signature and every file are as they must be; return the exit code."""
    from simile.artifacts import read_bundle, require_signature

    bundle = read_bundle(options.bundle)
    require_signature(bundle, options.key)
    print_lines(bundle.identity)
    return 0
