"""`simile train`: pairs to a bundle."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.options import TrainingOptions, named, value
from pipeline.output import print_lines, require_apart
from pipeline.presets import PRESETS
from simile.artifacts import named_pair_paths


class Options(TrainingOptions):
    """Options of `simile train`."""

    config: Annotated[
        str, named("CONFIG.yaml"), Field(description=f"A file, or a preset by name: {', '.join(PRESETS)}.")
    ]
    pairs: Annotated[tuple[Path, ...], value("PAIRS")]
    """Labelled pairs to train on. May be repeated: the files are trained on one after the other (a curriculum)."""


def run(options: Options) -> int:
    """Train the member and print the bundle's identity; return the exit code."""
    from pipeline.columns import read_labelled, read_named, require_columns_of, with_mined_sets
    from pipeline.presets import read_train_config

    config = read_train_config(options.config, options.set)
    require_columns_of(options.columns, "pairs")
    dev = with_mined_sets(options.dev, "dev")
    require_apart([options.out], [*options.pairs, *named_pair_paths(dev).values(), *options.calibrate])
    files, dev_sets = read_labelled(options.pairs, options), read_named(dev, options)
    calibration_sets = read_labelled(options.calibrate, options)
    # Torch takes seconds to load: bad configs and bad pairs are refused before.
    from training.train import train

    bundle = train(config, files, dev_sets, options.out, calibration_sets=calibration_sets, restart=options.restart)
    print_lines(bundle.identity)
    return 0
