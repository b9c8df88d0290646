"""`simile sign`: a signature for a bundle."""

import os
from pathlib import Path
from typing import Annotated

from pipeline.options import CommandOptions, named, value
from pipeline.output import print_lines


class Options(CommandOptions):
    """Options of `simile sign`."""

    bundle: Annotated[Path, named("BUNDLE")]
    """The bundle to sign; its ``model.sig`` is written, and its digest stays as it is."""
    key: Annotated[Path, value("PRIVATE.pem")]
    """The private key (EC, PEM); its password, if it has one, is read from ``SIMILE_KEY_PASSWORD``."""


def run(options: Options) -> int:
    """Sign the bundle and print its identity; return the exit code."""
    from simile.artifacts import read_bundle, sign_bundle

    bundle = read_bundle(options.bundle)
    sign_bundle(bundle, options.key, os.environ.get("SIMILE_KEY_PASSWORD"))
    print_lines(bundle.identity)
    return 0
