"""`simile labels power`: how many labelled pairs a verdict of the gate needs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pipeline.options import ColumnOption, named, value
from pipeline.output import print_lines, require_apart, require_file, text_table
from simile.errors import InputError
from simile.files import require_writable, write_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from labelling.power import SizePower
    from labelling.score_model import ScoreModel
    from simile.artifacts import PairSet

_SCORES = ("baseline_score", "bundle_score")
"""Columns of `simile sample`, which are used where no bundle is given."""
_TEXTS_PER_PAIR = 2.0
"""Texts per pair where there is no pilot: no text is in two pairs."""


class Options(ColumnOption):
    """Options of `simile labels power`."""

    pairs: Annotated[Path | None, named("PAIRS")] = None
    """A pilot: 100 or more labelled pairs, drawn as the pairs to come will be; without it, ``--spearman``."""
    baseline: Annotated[Path | None, value("BUNDLE")] = None
    """The baseline, which scores the pilot (default: the column ``baseline_score``)."""
    bundle: Annotated[Path | None, value("BUNDLE")] = None
    """A bundle like the one to be judged (default: the column ``bundle_score``, or an assumed correlation of 0.85 with
    the baseline)."""
    spearman: Annotated[float | None, Field(gt=0, lt=0.866), value("SPEARMAN")] = None
    """Spearman of the baseline, in place of a pilot."""
    positive_share: Annotated[float, Field(gt=0, lt=1), value("SHARE")] = 0.5
    """Share of positive pairs, with ``--spearman``."""
    groups: Annotated[int | None, Field(ge=1), value("N")] = None
    """Number of groups among the pairs to come (default: as many as in the pilot)."""
    texts_per_pair: Annotated[float | None, Field(gt=0, le=2), value("X")] = None
    """Number of different texts per pair to come, where no groups are known (default: the pilot's, or 2)."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the simulation."""
    json_file: Annotated[Path | None, named("--json"), value("FILE")] = None
    """Write the table as JSON."""


def run(options: Options) -> int:
    """Simulate every size, print the table; return the exit code."""
    from pipeline.columns import read_labelled, require_columns_of

    _require_consistent(options)
    require_writable(options.json_file)
    require_columns_of(options.columns, "pairs")
    require_file(options.pairs)
    require_apart([options.json_file], [options.pairs, options.baseline, options.bundle])
    pilot = read_labelled([options.pairs], options)[0] if options.pairs else None
    model = _model(options, pilot)
    is_grouped = options.groups is not None or (pilot is not None and pilot.have_groups)
    powers = _powers(options, model, pilot)
    unit = "groups" if is_grouped else "texts"
    if options.json_file:
        written = {
            "unit": unit.removesuffix("s"),
            "baseline_auc": model.baseline_auc,
            "positive_share": model.positive_share,
            "seed": options.seed,
            "sizes": [one.model_dump() for one in powers],
        }
        write_whole(options.json_file, json.dumps(written, indent=2) + "\n")
    print_lines(
        f"baseline: AUC {model.baseline_auc:.3f}; {model.positive_share:.0%} of the pairs are positive",
        "chance that the gate passes (the low end of the 95 % interval is above 0), by the true gain in Spearman",
        "",
        *_table(powers, unit),
    )
    return 0


def _require_consistent(options: Options) -> None:
    if (options.pairs is None) == (options.spearman is None):
        raise InputError("need either PAIRS, a pilot of labelled pairs, or --spearman, the baseline's figure")
    if options.pairs is None and (options.bundle or options.baseline):
        raise InputError("got a bundle without PAIRS, need pairs that it scores")
    if options.pairs is not None and "positive_share" in options.model_fields_set:
        raise InputError("got --positive-share with PAIRS, need --spearman with it: the pilot has its own")
    if options.groups and options.texts_per_pair:
        raise InputError("got --groups and --texts-per-pair, need one: groups are resampled where they are known")


def _model(options: Options, pilot: "PairSet | None") -> "ScoreModel":
    from labelling.pilot import assume, fit
    from labelling.score_model import spearman_per_auc

    if pilot is None:
        highest = spearman_per_auc(options.positive_share) / 2
        if not float(options.spearman or 0) < highest:
            need = f"need less than {highest:.3f}, the highest at this share of positives"
            raise InputError(f"--spearman: got {options.spearman}, {need}")
        return assume(float(options.spearman or 0), options.positive_share)
    if pilot.is_graded:
        raise InputError(f"{options.pairs}: got graded scores, need labels 0 and 1")
    try:
        return fit(pilot, *_scores(options, pilot))
    except ValueError as error:
        raise InputError(f"{options.pairs}: {error}") from error


def _scores(options: Options, pilot: "PairSet") -> tuple["NDArray[np.float64]", "NDArray[np.float64] | None"]:
    """Return the pilot's scores by the baseline and by the bundle, None without a bundle's."""
    import numpy as np

    from simile.artifacts.pairs import optional_number
    from simile.artifacts.reading import open_source
    from simile.scoring import load

    with open_source(Path(str(options.pairs)), options.reading) as source:
        stored = [[optional_number(row, name) for name in _SCORES] for row in source.rows()]
    scores: list[NDArray[np.float64] | None] = []
    for number, path in enumerate((options.baseline, options.bundle)):
        column = [row[number] for row in stored]
        if path is not None:
            scores.append(load(path).score(pilot.texts).astype(np.float64))
        else:
            scores.append(None if None in column else np.array(column, dtype=np.float64))
    if scores[0] is None:
        raise InputError(f"{options.pairs}: got pairs without baseline_score, need it in each, or --baseline BUNDLE")
    return scores[0], scores[1]


def _powers(options: Options, model: "ScoreModel", pilot: "PairSet | None") -> list["SizePower"]:
    from evaluation.bootstrap import difference, num_units
    from labelling.power import SIZES, power_of

    groups, per_pair = options.groups, options.texts_per_pair or _TEXTS_PER_PAIR
    if pilot is not None and pilot.have_groups:
        if options.texts_per_pair:
            raise InputError("got --texts-per-pair, need --groups: the pilot's pairs have groups")
        groups = groups or num_units(pilot)
    elif pilot is not None:
        per_pair = options.texts_per_pair or num_units(pilot) / len(pilot.rows)
    units = [groups or round(per_pair * size) for size in SIZES]
    return [power_of(model, size, difference=difference, seed=options.seed) for size in zip(SIZES, units, strict=True)]


def _table(powers: list["SizePower"], unit: str) -> list[str]:
    gains = [*powers[0].chances]
    rows = [
        [
            f"{one.pairs:,}",
            f"{one.units:,}",
            "-" if one.width is None else f"±{one.width / 2:.3f}",
            *("-" if chance is None else f"{chance:.0%}" for chance in one.chances.values()),
        ]
        for one in powers
    ]
    return text_table(["pairs", unit, "95 % interval", *(f"gain {float(gain):.2f}" for gain in gains)], rows)
