"""`simile inspect`: what a bundle is."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.options import CommandOptions, named, value
from pipeline.output import calibration_told, print_lines, text_table
from simile.artifacts.bundle import DIGEST


class Options(CommandOptions):
    """Options of `simile inspect`."""

    bundle: Annotated[Path, named("BUNDLE")]
    """The bundle to describe."""
    digest: Annotated[str | None, value("SHA256"), Field(pattern=DIGEST)] = None
    """The digest that the bundle must have, from a source that you trust."""
    as_json: Annotated[bool, named("--json")] = False
    """Print the manifest and the digest as JSON."""


def run(options: Options) -> int:
    """Verify the bundle and print what it is; return the exit code."""
    from simile.artifacts import EncoderMember, read_bundle, read_training_texts, require_digest
    from simile.scoring import evaluated_runtimes

    bundle = read_bundle(options.bundle)
    require_digest(bundle, options.digest)
    manifest = bundle.manifest
    if options.as_json:
        described = {"digest": manifest.digest, **manifest.model_dump(mode="json")}
        print_lines(*json.dumps(described, indent=2).splitlines())
        return 0
    rows = [
        (
            member.name,
            f"{manifest.combine.weights[member.name]:.4f}",
            member.base if isinstance(member, EncoderMember) else "TF-IDF",
            str(member.dimension),
            str(member.max_length) if isinstance(member, EncoderMember) else "-",
            f"{sum(file.size_bytes for file in member.files) / 2**20:.1f} MiB",
        )
        for member in manifest.members
    ]
    evaluated = ", ".join(map(str, evaluated_runtimes(bundle))) or "not yet"
    thresholds = manifest.thresholds
    print_lines(
        bundle.identity,
        "",
        *text_table(("member", "weight", "base", "dimension", "tokens", "files"), rows),
        "",
        f"combine      {manifest.combine.method}",
        f"thresholds   best F1 at {thresholds.best_f1:.4f}" if thresholds else "thresholds   none",
        f"calibration  {calibration_told(manifest.calibration)}",
        f"evaluated    {evaluated}",
        f"made         {manifest.made.by}",
        f"trained on   {_told(read_training_texts(bundle))}",
        "whole        every file has the sha256 of the manifest",
        *(["verified     the manifest has the given digest"] if options.digest else []),
    )
    return 0


def _told(training_texts: Collection[str] | None) -> str:
    """Return how many training texts the bundle has the hashes of, by which the gate finds leaks."""
    if training_texts is None:
        return "unknown texts (texts.sha256 is missing or of another bundle): the gate cannot look for leaks"
    return f"{len(training_texts):,} texts, whose hashes are in it" if training_texts else "no texts"
