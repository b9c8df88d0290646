import importlib.util
from pathlib import Path

import numpy as np
import pytest

from simile.scoring.metrics import spearman

HARNESS = Path(__file__).parent.parent / "benchmarks" / "harness.py"


@pytest.fixture
def parser(monkeypatch):
    """Returns the parser of the benchmarks with SIMILE_DATA set to the given value."""
    spec = importlib.util.spec_from_file_location("harness", HARNESS)
    harness = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(harness)

    def made(data):
        monkeypatch.setenv("SIMILE_DATA", data)
        return harness.parser_of(None, ["clinc150"])

    return made


def test_corpora_lie_where_the_option_or_the_environment_says(parser):
    assert parser("corpora").parse_args([]).data == Path("corpora")
    assert parser("corpora").parse_args(["--data", "others"]).data == Path("others")


def test_corpora_lie_nowhere_by_default(parser, capsys):
    with pytest.raises(SystemExit):
        parser("").parse_args([])
    assert "the following arguments are required: --data" in capsys.readouterr().err


def test_simulated_pairs_of_the_gate_have_the_merit_and_the_structure_they_should(monkeypatch):
    monkeypatch.syspath_prepend(HARNESS.parent)
    simulation = importlib.import_module("gate_simulation")
    pairs, bundle_P, baseline_P = simulation.draw(200, 0.1, 0.5, np.random.default_rng(0))
    assert len(pairs.rows) == 200 * simulation.PAIRS_PER_GROUP
    assert [row.label for row in pairs.rows] == [int(row.group_a == row.group_b) for row in pairs.rows]
    assert pairs.target_P.mean() == 0.5
    assert all(row.text_a != row.text_b for row in pairs.rows)
    better, baseline = (spearman(score_P, pairs.target_P) for score_P in (bundle_P, baseline_P))
    assert baseline == pytest.approx(simulation.BASELINE, abs=0.1)
    assert better - baseline == pytest.approx(0.1, abs=0.04)
