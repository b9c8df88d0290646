import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from evaluation.bootstrap import difference, num_units
from labelling.pilot import ASSUMED_CORRELATION, assume, fit
from labelling.power import power_of
from labelling.score_model import Covariances, ScoreModel, Structure
from pipeline.cli import main
from simile.artifacts import Pair, PairSet, write_pairs

SIZE = (80, 40)


def grouped(*, recurrence: float = 0.05) -> ScoreModel:
    """Positive pairs lie within a group, negative ones between two, and all effects have a share of the variance."""
    half = np.array([[1, 0.8], [0.8, 1]])
    unit_EE = np.block([[0.2 * half, np.zeros((2, 2))], [np.zeros((2, 2)), 0.3 * half]])
    covariances = Covariances(unit_EE, np.array([0.2 * half, 0 * half]), np.array([0.4 * half, 0.7 * half]))
    return ScoreModel(0.5, 0.8, covariances, Structure(np.array([0.0, 1.0]), np.array([recurrence, 0.0]), np.ones(1)))


@pytest.mark.parametrize("model", [grouped(), assume(0.5, 0.2)], ids=["groups", "texts"])
def test_drawn_scores_have_the_gain_that_was_asked_for(model):
    drawn = model.draw(60_000, 30_000, np.random.default_rng(0))
    baseline, *bundles = model.shifts([0.02, 0.1])
    base = spearmanr(drawn.scores(0, baseline), drawn.is_positive_P).statistic
    gains = [spearmanr(drawn.scores(1, shift), drawn.is_positive_P).statistic - base for shift in bundles]
    assert gains == pytest.approx([0.02, 0.1], abs=0.01)


def test_assumed_baseline_has_the_spearman_that_was_given():
    model = assume(0.5, 0.3)
    drawn = model.draw(60_000, 120_000, np.random.default_rng(0))
    assert drawn.is_positive_P.mean() == pytest.approx(0.3, abs=0.01)
    score_P = drawn.scores(0, model.shifts([])[0])
    assert spearmanr(score_P, drawn.is_positive_P).statistic == pytest.approx(0.5, abs=0.01)
    negative_PM = drawn.effect_PM[~drawn.is_positive_P]
    assert np.corrcoef(negative_PM.T)[0, 1] == pytest.approx(ASSUMED_CORRELATION, abs=0.01)


def test_gain_that_no_bundle_can_have_has_no_shift_and_no_chance():
    model = assume(0.84, 0.5)
    assert np.isnan(model.shifts([0.1])[1])
    power = power_of(model, SIZE, difference=difference, gains=[0.1])
    assert (power.chances, power.width) == ({"0.1": None}, None)


def test_drawn_pairs_are_over_all_units_and_combinations_recur_as_asked():
    drawn = grouped(recurrence=0.05).draw(2000, 300, np.random.default_rng(0))
    assert num_units(drawn.pairs()) == 300
    is_within_P = drawn.unit_P2[:, 0] == drawn.unit_P2[:, 1]
    np.testing.assert_array_equal(is_within_P, drawn.is_positive_P)
    recurrences = []
    for seed in range(20):
        drawn = grouped(recurrence=0.05).draw(600, 300, np.random.default_rng(seed))
        counts = Counter(map(tuple, drawn.unit_P2[~drawn.is_positive_P].tolist()))
        num = counts.total()
        recurrences.append(sum(one * (one - 1) for one in counts.values()) / (num * (num - 1)))
    assert np.mean(recurrences) == pytest.approx(0.05, abs=0.01)


def test_no_text_is_in_two_pairs_where_there_are_two_texts_per_pair():
    drawn = assume(0.5, 0.5).draw(200, 400, np.random.default_rng(0))
    assert len(set(drawn.unit_P2.ravel().tolist())) == 400


def test_fit_finds_the_model_that_a_large_pilot_was_drawn_from():
    model, rng = grouped(recurrence=0.0005), np.random.default_rng(1)
    drawn = model.draw(8000, 500, rng)
    base, bundle = model.shifts([0.05])
    # Groups are told as such: their names are those of the drawn units.
    fitted = fit(drawn.pairs(), drawn.scores(0, base), drawn.scores(1, bundle))
    assert fitted.positive_share == pytest.approx(0.5, abs=0.02)
    assert fitted.baseline_auc == pytest.approx(0.8, abs=0.03)
    assert fitted.structure.recurrence_C == pytest.approx([0.0005, 0], abs=0.0002)
    assert fitted.structure.within_share_C == pytest.approx([0, 1])
    # The scale is that of normal ranks over both classes: shares of a class's variance are compared.
    for c, ends in enumerate((2, 1)):
        unit_MM = fitted.covariances.unit_EE[2 * c : 2 * c + 2, 2 * c : 2 * c + 2]
        total_MM = ends * unit_MM + fitted.covariances.combination_CMM[c] * (ends - 1) + fitted.covariances.pair_CMM[c]
        assert unit_MM[0, 0] / total_MM[0, 0] == pytest.approx((0.2, 0.3)[c], abs=0.06)
        combined = fitted.covariances.combination_CMM[c][0, 0] / total_MM[0, 0]
        assert combined == pytest.approx((0.2, 0)[c], abs=0.06)
        assert total_MM[0, 1] / np.sqrt(total_MM[0, 0] * total_MM[1, 1]) == pytest.approx(0.8, abs=0.03)


def test_every_fitted_covariance_is_positive_semidefinite_however_small_the_pilot():
    for seed in range(20):
        drawn = grouped().draw(60, 12, np.random.default_rng(seed))
        model = fit(drawn.pairs(), drawn.scores(0, 1), drawn.scores(1, 1))
        covariances = [model.covariances.unit_EE, *model.covariances.combination_CMM, *model.covariances.pair_CMM]
        assert min(np.linalg.eigvalsh(one).min() for one in covariances) > -1e-9


def test_chance_is_the_share_of_simulated_evaluations_that_pass():
    model = grouped()
    base, bundle = model.shifts([0.15])
    rng, passed = np.random.default_rng(5), 0
    for _ in range(300):
        drawn = model.draw(*SIZE, rng)
        scores = [drawn.scores(i, shift).astype(np.float32) for i, shift in ((1, bundle), (0, base))]
        passed += difference(drawn.pairs(), *scores).low > 0
    chance = power_of(model, SIZE, difference=difference, gains=[0.15]).chances["0.15"]
    assert 0.1 < chance < 0.9
    # The standard error of a share of 300 is up to 0.03.
    assert chance == pytest.approx(passed / 300, abs=0.09)


def test_few_groups_make_a_wide_interval_and_a_small_chance():
    few, many = (power_of(grouped(), (300, groups), difference=difference) for groups in (6, 150))
    assert few.width > 1.5 * many.width
    assert few.chances["0.1"] < many.chances["0.1"]
    assert [*many.chances.values()] == sorted(many.chances.values())


def test_three_groups_have_no_interval_and_no_chance():
    power = power_of(grouped(), (60, 3), difference=difference)
    assert (power.width, {*power.chances.values()}) == (None, {0.0})


def test_table_is_the_same_every_time_and_another_with_another_seed():
    tables = [power_of(grouped(), SIZE, difference=difference, seed=seed) for seed in (0, 0, 1)]
    assert tables[0] == tables[1] != tables[2]


def write_pilot(path, **others) -> None:
    """Write 60 pairs, the positive ones with the higher scores by both models."""
    rng = np.random.default_rng(0)
    rows = [
        {"text_a": f"a {i}", "text_b": f"b {i}", "label": i % 2}
        | {name: i % 2 + rng.normal() for name in ("baseline_score", "bundle_score")}
        | others
        for i in range(60)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture
def fast(monkeypatch):
    """Make the simulation small: what the command does with it is under test."""
    monkeypatch.setattr("labelling.power.SIZES", (20, 50))
    monkeypatch.setattr("labelling.power.SETS", 40)
    monkeypatch.setattr("labelling.power.RESAMPLES", 50)


def test_command_prints_a_row_per_size_and_writes_json(tmp_path, capsys, fast):
    write_pilot(tmp_path / "pilot.jsonl")
    assert main(["labels", "power", str(tmp_path / "pilot.jsonl"), "--json", str(tmp_path / "power.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split("   ")[0] == "pairs"
    assert [line.split()[:2] for line in lines[5:]] == [["20", "40"], ["50", "100"]]
    written = json.loads((tmp_path / "power.json").read_text())
    assert (written["unit"], written["positive_share"], written["seed"]) == ("text", 0.5, 0)
    assert [(one["pairs"], one["units"]) for one in written["sizes"]] == [(20, 40), (50, 100)]
    assert [*written["sizes"][0]["chances"]] == ["0.02", "0.05", "0.1"]


def test_command_takes_the_number_of_groups_from_the_pilot_or_the_option(tmp_path, capsys, fast):
    write_pilot(tmp_path / "pilot.jsonl", group_a="one", group_b="other")
    for option, groups in (([], "2"), (["--groups", "9"], "9")):
        assert main(["labels", "power", str(tmp_path / "pilot.jsonl"), *option]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "groups" in lines[3]
        assert [line.split()[1] for line in lines[5:]] == [groups, groups]


def test_command_needs_no_pilot_where_the_baselines_figure_is_given(capsys, fast):
    assert main(["labels", "power", "--spearman", "0.5", "--positive-share", "0.2"]) == 0
    assert "20% of the pairs are positive" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "need either PAIRS, a pilot of labelled pairs, or --spearman"),
        (["--spearman", "0.5", "--baseline", "b"], "got a bundle without PAIRS"),
        (["--spearman", "0.8", "--positive-share", "0.1"], "need less than 0.520"),
        (["--spearman", "0.5", "--groups", "9", "--texts-per-pair", "1"], "need one"),
        (["PILOT", "--positive-share", "0.2"], "the pilot has its own"),
    ],
)
def test_command_refuses_what_contradicts_itself(tmp_path, capsys, arguments, message):
    write_pilot(tmp_path / "pilot.jsonl")
    pilot = str(tmp_path / "pilot.jsonl")
    assert main(["labels", "power", *(pilot if one == "PILOT" else one for one in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_command_refuses_a_pilot_without_scores_or_with_too_few_pairs(tmp_path, capsys):
    pairs = [Pair(f"a {i}", f"b {i}", label=i % 2) for i in range(12)]
    write_pairs(tmp_path / "pilot.jsonl", pairs)
    assert main(["labels", "power", str(tmp_path / "pilot.jsonl")]) == 2
    assert "need it in each, or --baseline BUNDLE" in capsys.readouterr().err
    with pytest.raises(ValueError, match="need 10 pairs of each class"):
        fit(PairSet("x", tuple(replace(one) for one in pairs), ""), np.arange(12.0))


@pytest.mark.parametrize(
    ("score_of", "message"),
    [(lambda label: 0.5, "got constant scores"), (lambda label: label, "got a baseline with an AUC of 1")],
)
def test_pilot_that_tells_nothing_of_the_scores_is_refused(tmp_path, capsys, score_of, message):
    path = tmp_path / "pilot.jsonl"
    rows = [
        {"text_a": f"a {i}", "text_b": f"b {i}", "label": i % 2, "baseline_score": score_of(i % 2)} for i in range(40)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert main(["labels", "power", str(path)]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
