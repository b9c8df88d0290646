"""`simile inspect`: what a bundle is."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from pipeline.options import CommandOptions, named
from pipeline.output import calibration_told, print_lines, text_table


class Options(CommandOptions):
    """Options of `simile inspect`."""

    bundle: Annotated[Path, named("BUNDLE")]
    """The bundle to describe."""
    as_json: Annotated[bool, named("--json")] = False
    """Print the manifest and the digest as JSON."""


def run(options: Options) -> int:
    """Verify the bundle and print what it is; return the exit code."""
    from simile.artifacts import EncoderMember, read_bundle, read_training_texts
    from simile.scoring import evaluated_runtimes

    bundle = read_bundle(options.bundle)
    manifest = bundle.manifest
    if options.as_json:
        print_lines(json.dumps({"digest": manifest.digest, **manifest.model_dump(mode="json")}, indent=2))
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
        text_table(("member", "weight", "base", "dimension", "tokens", "files"), rows),
        "",
        f"combine      {manifest.combine.method}",
        f"thresholds   best F1 at {thresholds.best_f1:.4f}" if thresholds else "thresholds   none",
        f"calibration  {calibration_told(manifest.calibration)}",
        f"evaluated    {evaluated}",
        f"made         {manifest.made.by}",
        f"trained on   {_told(read_training_texts(bundle))}",
        "verified     every file has the sha256 of the manifest",
    )
    return 0


def _told(training_texts: Collection[str] | None) -> str:
    """Return how many training texts the bundle has the hashes of, by which the gate finds leaks."""
    if training_texts is None:
        return "unknown texts (texts.sha256 is missing or of another bundle): the gate cannot look for leaks"
    return f"{len(training_texts):,} texts, whose hashes are in it" if training_texts else "no texts"
