"""Scoring of text pairs by a bundle. `simile.scoring.metrics` has to be imported by its name: serving has no SciPy."""

from simile.scoring.calibration import probability, require_prior
from simile.scoring.encoder import Encoder, Side, Tokens, cosines, length_sorted_batches
from simile.scoring.golden import GOLDEN_PAIRS
from simile.scoring.lexical import Lexical, pack_vocabulary, words
from simile.scoring.provider import Device, Precision, Runtime, choose_runtime
from simile.scoring.scorer import (
    DistinctTexts,
    Pairs,
    Scored,
    Scorer,
    distinct_texts,
    evaluated_runtimes,
    golden_pairs,
    load,
    require_finite,
    unscored_pairs,
)
