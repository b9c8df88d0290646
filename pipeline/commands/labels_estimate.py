"""`simile labels estimate`: figures of the traffic from a labelled sample, with intervals that are right for it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pipeline.options import CommandOptions, named, value
from pipeline.output import print_lines, require_apart, require_file, text_table
from simile.files import require_writable, write_whole
from simile.progress import say

if TYPE_CHECKING:
    from labelling.estimation import Estimate
    from labelling.samples import LabelledSample


class Options(CommandOptions):
    """Options of `simile labels estimate`."""

    pairs: Annotated[Path, named("PAIRS")]
    """Labelled pairs with ``inclusion_probability`` and, if it has some, ``stratum``, such as ``labels.jsonl`` of
    `simile labels merge`. Pairs of another ``part`` than ``random`` are left out."""
    bundle: Annotated[Path | None, value("BUNDLE")] = None
    """Bundle that scores the pairs (default: only the share of positives)."""
    json_file: Annotated[Path | None, named("--json"), value("FILE")] = None
    """Write the estimates as JSON."""


def run(options: Options) -> int:
    """Print and write the estimates; return the exit code."""
    from labelling.report import told
    from labelling.samples import read_labelled_sample

    require_file(options.pairs)
    require_apart([options.json_file], [options.pairs, options.bundle])
    require_writable(options.json_file)
    labelled = read_labelled_sample(options.pairs)
    if labelled.num_left_out:
        say(f"{options.pairs}: {labelled.num_left_out:,} pairs were chosen by their scores and are left out")
    estimates = _estimates(labelled, options.bundle)
    if options.json_file:
        lines = (f'  "{name}": {estimate.model_dump_json()}' for name, estimate in estimates.items())
        write_whole(options.json_file, "{\n" + ",\n".join(lines) + "\n}\n")
    rows = [[name, told(estimate)] for name, estimate in estimates.items()]
    if not (labelled.sample.weight_P > 1).any():
        said = "no pair has an inclusion_probability below 1, so the figures are of these pairs only"
        say(f"note: {options.pairs}: {said}")
    traffic = f"{len(labelled.texts):,} pairs stand for {labelled.sample.weight_P.sum():,.0f}"
    strata = int(labelled.sample.stratum_P.max()) + 1
    print_lines(f"{traffic}, in {strata} {'stratum' if strata == 1 else 'strata'}")
    print_lines(*text_table(["traffic", "estimate, 95 % interval"], rows))
    return 0


def _estimates(labelled: "LabelledSample", bundle: Path | None) -> "dict[str, Estimate]":
    """Return the estimate of each figure by its name; those of scores need a bundle."""
    from labelling import estimation

    sample, label_P = labelled.sample, labelled.label_P
    estimates = {"share of positives": estimation.share_of_positives(sample, label_P)}
    if bundle is None:
        return estimates
    from simile.scoring import load

    scorer = load(bundle)
    score_P = scorer.score(labelled.texts).astype("float64")
    estimates |= {
        "Spearman": estimation.spearman(sample, score_P, label_P),
        "AUC": estimation.auc(sample, score_P, label_P),
    }
    thresholds = scorer.bundle.manifest.thresholds
    stated = {"best F1": thresholds.best_f1, "95 % precision": thresholds.precision_95} if thresholds else {}
    for name, threshold in stated.items():
        if threshold is not None:
            where = f"at {threshold:.4f} ({name})"
            estimates[f"precision {where}"] = estimation.precision(sample, score_P, label_P, threshold)
            estimates[f"recall {where}"] = estimation.recall(sample, score_P, label_P, threshold)
    return estimates
