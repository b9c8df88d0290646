"""`simile distill`: trains a student encoder on a teacher bundle's scores."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.options import TrainingOptions, named, value
from pipeline.output import print_lines, require_apart
from pipeline.presets import PRESETS
from simile.artifacts import named_pair_paths

_DEFAULTS = ("most_pairs=null", "min_base_agreement=0.95")
"""Settings that replace the config's unless ``--set`` gives them. More agreement would undo what the teacher taught."""
_WEIGHT = 25.0
"""Weight of the loss ``teacher`` beside the config's losses: its gradients are then about five times as long as theirs.
The teacher has learned the labels, and more of them make the student worse on other groups (docs/log.md)."""


class Options(TrainingOptions):
    """Options of `simile distill`."""

    teacher: Annotated[Path, named("TEACHER")]
    """Bundle whose scores are learned: one encoder or an ensemble of several."""
    into: Annotated[
        str,
        value("CONFIG.yaml"),
        Field(description=f"Settings of the student: a file, or a preset by name: {', '.join(PRESETS)}."),
    ]
    pairs: Annotated[Path, value("PAIRS")]
    """Labelled pairs to train on."""
    unlabelled: Annotated[tuple[Path, ...], value("TEXTS")] = ()
    """Documents without groups, such as traffic of the domain, on which the teacher's scores alone are learned. May be
    repeated."""


def run(options: Options) -> int:
    """Train the student and print the bundle's identity; return the exit code."""
    from pipeline.columns import columns_of, read_labelled, read_named, require_columns_of, say_rows, with_mined_sets
    from pipeline.presets import read_train_config
    from simile.artifacts import read_bundle, read_documents

    config = read_train_config(options.into, [*_DEFAULTS, *options.set])
    if "teacher" not in config.loss:
        config = config.model_copy(update={"loss": config.loss | {"teacher": _WEIGHT}})
    require_columns_of(options.columns, "documents", "pairs")
    dev = with_mined_sets(options.dev, "dev")
    read = [options.teacher, options.pairs, *options.unlabelled, *named_pair_paths(dev).values(), *options.calibrate]
    require_apart([options.out], read)
    files, dev_sets = read_labelled([options.pairs], options), read_named(dev, options)
    calibration_sets = read_labelled(options.calibrate, options)
    texts: list[str] = []
    for path in options.unlabelled:
        own = [row.text for row in read_documents(path, columns_of("documents", options), options.reading)]
        say_rows(path, len(own))
        texts += own
    teacher = read_bundle(options.teacher)
    # Torch takes seconds to load: bad configs and bad inputs are refused before.
    from training.distillation import Distillation
    from training.train import train

    bundle = train(
        config,
        files,
        dev_sets,
        options.out,
        calibration_sets=calibration_sets,
        distillation=Distillation(teacher, texts),
        restart=options.restart,
    )
    print_lines(bundle.identity)
    return 0
