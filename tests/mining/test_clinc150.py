"""Mining from a public corpus with its dev pairs as the target: as hard as they are, and without their shortcuts."""

import os
from pathlib import Path

import pytest

from mining.config import MineConfig
from mining.mine import mine
from mining.report.figures import describe
from simile.artifacts import read_documents, read_pairs
from simile.scoring import load

DATA = Path(os.environ.get("SIMILE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "clinc150"
CONFIG = MineConfig(pairs=10_000)


@pytest.fixture(scope="module")
def report(minilm):
    if not DATA.is_dir():
        pytest.skip(f"no clinc150 at {DATA} (set SIMILE_DATA)")
    held_out = [
        text
        for name in ("test-seen", "test-unseen", "test-bands")
        for pair in read_pairs(DATA / f"{name}.jsonl.gz").texts
        for text in pair
    ]
    mined = mine(
        read_documents(DATA / "corpus.jsonl.gz"),
        CONFIG,
        read_pairs(DATA / "dev.jsonl.gz"),
        held_out=held_out,
        baseline=load(minilm.path),
    )
    return describe(mined)


def test_a_classifier_hardly_distinguishes_mined_pairs_from_the_target(report):
    assert report.training.pairs == 10_000
    for name in ("positive", "negative"):
        assert report.match.adversarial[name].matched <= 0.55
        assert report.match.adversarial[name].all <= 0.65


def test_the_baseline_separates_mined_pairs_as_far_as_the_target(report):
    assert report.training.baseline.separability == pytest.approx(report.target.baseline.separability, abs=0.02)


def test_shortcuts_are_no_stronger_than_the_targets(report):
    mined, target = report.training.alone, report.target.alone
    assert abs(mined.tfidf) < 0.05
    assert mined.length_ratio == pytest.approx(target.length_ratio, abs=0.03)
    assert mined.same_category == pytest.approx(target.same_category, abs=0.03)
