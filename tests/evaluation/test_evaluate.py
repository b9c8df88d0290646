import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from evaluation.bootstrap import difference
from evaluation.evaluate import Evaluation, evaluate
from evaluation.gate import Gate
from evaluation.report import to_page
from pipeline.output import result_table
from simile.artifacts import Bundle, Pair, PairSet, PlattCalibration, text_hash, texts_digest, write_bundle
from simile.errors import InputError
from simile.reports import paragraph
from simile.scoring import Runtime, Scored, load, probability
from simile.scoring.metrics import expected_calibration_error, figures, tfidf_cosines

HOSTILE = "<script>alert(1)</script> \"'&</style>]]>"
NUM = 120


def as_json(evaluation: Evaluation) -> dict:
    """Return the report as it is written to JSON."""
    return evaluation.report.model_dump(mode="json")


@dataclass
class Stated:
    """A scorer whose scores are stated, not computed."""

    bundle: Bundle
    score_by_pair: dict[tuple[str, str], float]
    runtime = Runtime("CPUExecutionProvider", "fp32")
    members = ("stated",)

    def score_members(self, pairs, on_progress=None) -> Scored:
        score_P = np.array([self.score_by_pair[pair] for pair in pairs], dtype=np.float32)
        return Scored(score_P, {"stated": score_P}, 0, 0, 0, 0)

    def unknown_shares(self, pairs) -> dict[str, float]:
        return {}


def pairs_named(name: str, *, graded: bool = False, grouped: bool = False) -> PairSet:
    """Pairs, half of them positive, whose second text is unlike every other."""
    rows = []
    for i in range(NUM):
        target = {"score": float(i % 5)} if graded else {"label": i % 2}
        groups = {"group_a": f"g{i % 20}", "group_b": f"h{i}"} if grouped else {}
        rows.append(Pair(f"{name} text {i % 40}", f"{name} other {i}", **target, **groups))
    return PairSet(name, tuple(rows), f"{len(name):064x}")


@pytest.fixture(scope="module")
def bundles(write_lexical, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return {name: write_lexical(folder / name, ["some words", "other words"], name=name) for name in ("good", "base")}


@pytest.fixture
def constant(bundles):
    """Makes a scorer that scores all pairs alike."""
    return lambda name, pairs: Stated(bundles[name], dict.fromkeys(pairs.texts, 0.5))


@pytest.fixture
def state(bundles):
    """Makes a scorer whose scores are the better the less noise they have."""

    def scorer(name: str, noise: float, *sets: PairSet) -> Stated:
        rng = np.random.default_rng(len(name))
        stated = {}
        for pairs in sets:
            top = max(1.0, pairs.target_P.max())
            for row in pairs.rows:
                stated[row.text_a, row.text_b] = 0.5 * row.target / top + noise * rng.normal()
        return Stated(bundles[name], stated)

    return scorer


def test_report_has_exactly_the_shape_it_promises(state):
    sets = [pairs_named("seen", grouped=True), pairs_named("graded", graded=True)]
    guard = pairs_named("guard")
    good, base = (state(name, noise, *sets, guard) for name, noise in (("good", 0.1), ("base", 0.5)))
    evaluation = evaluate(good, sets, baseline=base, guards=[guard], gate=Gate(), training_texts=frozenset())
    report = as_json(evaluation)
    four = {"spearman", "auc", "separability", "overlap"}
    # design.md, and beyond it what a report is checked by: the file's sha256, the kind of labels, leaked texts.
    assert set(report) == {
        "schema_version", "version", "commit", "bundle", "baseline", "prior", "sets", "guards", "interval",
        "leaked_texts", "baseline_leaked_texts", "looks", "guard_results", "verdict", "reasons",
    }  # fmt: skip
    for who, scorer in (("bundle", good), ("baseline", base)):
        assert report[who] == {
            "name": scorer.bundle.manifest.name,
            "digest": scorer.bundle.manifest.digest,
            "provider": "CPUExecutionProvider",
            "precision": "fp32",
        }
    assert list(report["sets"]) == ["seen", "graded"]
    assert list(report["guards"]) == ["guard"]
    for pairs, entry in zip([*sets, guard], [*report["sets"].values(), *report["guards"].values()], strict=True):
        assert set(entry) == {
            "pairs",
            "sha256",
            "graded",
            "bundle",
            "baseline",
            "difference",
            "lexical",
            "unknown_tokens",
        }
        assert (entry["pairs"], entry["sha256"], entry["graded"]) == (NUM, pairs.sha256, pairs.is_graded)
        assert set(entry["bundle"]) == set(entry["baseline"]) == ({"spearman"} if pairs.is_graded else four)
        assert set(entry["difference"]) == {"spearman", "low", "high"}
        assert set(entry["lexical"]) == {"spearman"}
    assert report["interval"] == {
        "unit": {"seen": "group", "graded": "text", "guard": "text"}, "resamples": 1000, "seed": 0
    }  # fmt: skip
    assert report["leaked_texts"] == {"seen": 0, "graded": 0, "guard": 0}
    assert report["verdict"] == "pass"
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_without_a_baseline_there_is_nothing_to_compare_with(state):
    pairs = pairs_named("seen")
    report = as_json(evaluate(state("good", 0.1, pairs), [pairs]))
    assert report["baseline"] is None
    assert report["sets"]["seen"]["baseline"] is None
    assert report["sets"]["seen"]["difference"] is None
    assert (report["guards"], report["leaked_texts"], report["verdict"], report["reasons"]) == ({}, None, None, [])


def test_figures_are_those_of_the_scores(state):
    pairs = pairs_named("seen")
    good, base = state("good", 0.2, pairs), state("base", 0.5, pairs)
    evaluation = evaluate(good, [pairs], baseline=base)
    entry = as_json(evaluation)["sets"]["seen"]
    for who, scorer in (("bundle", good), ("baseline", base)):
        score_P = np.array([scorer.score_by_pair[pair] for pair in pairs.texts], dtype=np.float32)
        np.testing.assert_array_equal(evaluation.scores["seen"][who], score_P)
        assert entry[who] == figures(score_P, pairs.target_P, is_graded=False)
        assert entry[who]["spearman"] == pytest.approx(spearmanr(score_P, pairs.target_P).statistic)
    interval = difference(pairs, evaluation.scores["seen"]["bundle"], evaluation.scores["seen"]["baseline"])
    assert entry["difference"] == {"spearman": interval.value, "low": interval.low, "high": interval.high}
    assert interval.value == pytest.approx(entry["bundle"]["spearman"] - entry["baseline"]["spearman"])


def test_figures_of_a_sample_are_weighted_and_the_report_says_so(state):
    pairs = pairs_named("seen")
    rows = tuple(replace(row, inclusion_probability=0.5 if row.label else 0.1) for row in pairs.rows)
    sample = PairSet("seen", rows, pairs.sha256)
    evaluation = evaluate(state("good", 0.2, pairs), [sample])
    score_P = evaluation.scores["seen"]["bundle"]
    weight_P = np.where(sample.target_P == 1, 2.0, 10.0)
    entry = evaluation.report.sets["seen"]
    assert entry.bundle.spearman == pytest.approx(
        figures(score_P, pairs.target_P, weight_P=weight_P, is_graded=False)["spearman"]
    )
    assert entry.weighted
    (note,) = evaluation.report.notes
    assert note == "seen: pairs are weighted by 1 / inclusion_probability, so the figures are of the traffic"
    plain = evaluate(state("good", 0.2, pairs), [pairs]).report
    assert plain.notes == ()
    assert "weighted" not in plain.model_dump(mode="json")["sets"]["seen"]


@pytest.fixture
def calibrate():
    """Gives a scorer's bundle a calibration."""

    def calibrated(scorer: Stated, **fields) -> Stated:
        calibration = PlattCalibration(**{"slope": 10, "intercept": -2.5, "positive_share": 0.5} | fields)
        manifest = scorer.bundle.manifest.model_copy(update={"calibration": calibration})
        return Stated(Bundle(scorer.bundle.path, manifest, scorer.bundle.data), scorer.score_by_pair)

    return calibrated


@pytest.mark.parametrize("prior", [None, 0.1])
def test_calibration_error_is_that_of_the_probabilities(state, calibrate, prior):
    pairs, guard, graded = pairs_named("seen"), pairs_named("guard"), pairs_named("graded", graded=True)
    good, base = state("good", 0.2, pairs, graded, guard), state("base", 0.5, pairs, graded, guard)
    good = calibrate(good)
    report = as_json(evaluate(good, [pairs, graded], baseline=base, guards=[guard], prior=prior))
    assert report["prior"] == prior
    for of, entry in ((pairs, report["sets"]["seen"]), (guard, report["guards"]["guard"])):
        score_P = np.array([good.score_by_pair[pair] for pair in of.texts], dtype=np.float32)
        probability_P = probability(good.bundle.manifest.calibration, score_P, prior=prior)
        error = expected_calibration_error(probability_P, of.target_P)
        assert entry["bundle"] == figures(score_P, of.target_P, is_graded=False) | {"calibration_error": error}
        assert (error > 0.15) == (prior == 0.1)
        assert "calibration_error" not in entry["baseline"]
    assert set(report["sets"]["graded"]["bundle"]) == {"spearman"}


def test_baseline_that_is_calibrated_has_its_calibration_error_too(state, calibrate):
    pairs = pairs_named("seen")
    base = calibrate(state("base", 0.5, pairs), slope=0, intercept=5)
    report = as_json(evaluate(state("good", 0.2, pairs), [pairs], baseline=base))
    assert "calibration_error" not in report["sets"]["seen"]["bundle"]
    assert report["sets"]["seen"]["baseline"]["calibration_error"] == pytest.approx(0.5, abs=0.01)


def test_prior_for_a_bundle_without_calibration_is_refused(state):
    pairs = pairs_named("seen")
    with pytest.raises(InputError, match=r"got a prior of 0.1 for a bundle without calibration"):
        evaluate(state("good", 0.1, pairs), [pairs], prior=0.1)


@pytest.mark.parametrize("with_baseline", [True, False])
def test_tables_and_page_show_the_calibration_error_where_there_is_one(state, calibrate, parse_page, with_baseline):
    sets = [pairs_named("seen"), pairs_named("graded", graded=True)]
    good, base = state("good", 0.2, *sets), state("base", 0.5, *sets)
    baseline = base if with_baseline else None
    for scorer, prior in ((good, None), (calibrate(good), None), (calibrate(good), 0.1)):
        is_calibrated = scorer is not good
        evaluation = evaluate(scorer, sets, baseline=baseline, prior=prior)
        error = as_json(evaluation)["sets"]["seen"]["bundle"].get("calibration_error")
        text = " ".join(parse_page(to_page(evaluation, sets)).itertext())
        header, _, first, second = result_table(evaluation.report)
        assert header.endswith("ECE") == is_calibrated == ("ECE is the expected calibration error" in text)
        assert ("the share of positives that was given, 0.1" in text) == (prior == 0.1)
        if is_calibrated:
            assert (first.split()[-1], second.split()[-1]) == (f"{error:.4f}", "-")


def test_a_real_bundle_is_evaluated_by_the_scores_it_serves(helpdesk, write_lexical, tmp_path):
    texts = [row.text for row in helpdesk[:200]]
    rows = [Pair(texts[i], texts[-i - 1], label=i % 2) for i in range(100)]
    pairs = PairSet("x", tuple(rows), "0" * 64)
    one, half = (
        load(write_lexical(tmp_path / name, texts[::step], name=name).path, device="cpu", precision="fp32")
        for name, step in (("one", 1), ("half", 2))
    )
    evaluation = evaluate(one, [pairs], baseline=half)
    np.testing.assert_array_equal(evaluation.scores["x"]["bundle"], one.score(pairs.texts))
    np.testing.assert_array_equal(evaluation.scores["x"]["baseline"], half.score(pairs.texts))


def test_a_bundle_against_itself_differs_by_nothing(state):
    pairs = pairs_named("seen")
    scorer = state("good", 0.3, pairs)
    report = as_json(evaluate(scorer, [pairs], baseline=scorer, gate=Gate()))
    assert report["sets"]["seen"]["difference"] == {"spearman": 0, "low": 0, "high": 0}
    assert report["verdict"] == "fail"


def test_score_that_is_not_finite_is_refused(state):
    pairs = pairs_named("seen")
    scorer = state("good", 0.1, pairs)
    scorer.score_by_pair[pairs.texts[3]] = float("nan")
    with pytest.raises(InputError, match="1 scores are not finite"):
        evaluate(scorer, [pairs])


def test_two_sets_of_one_name_are_refused(state):
    pairs = pairs_named("seen")
    scorer = state("good", 0.1, pairs)
    with pytest.raises(InputError, match="got sets named seen, seen, need a different name for each set"):
        evaluate(scorer, [pairs], guards=[pairs])


def test_gate_passes_a_sure_gain(state):
    pairs, guard = pairs_named("seen"), pairs_named("guard")
    good, base = state("good", 0.1, pairs, guard), state("base", 0.6, pairs, guard)
    report = as_json(evaluate(good, [pairs], baseline=base, guards=[guard], gate=Gate(), training_texts=frozenset()))
    low = report["sets"]["seen"]["difference"]["low"]
    assert low > 0
    assert report["verdict"] == "pass"
    assert report["reasons"][0] == f"seen: low end {low:+.4f}"
    assert report["reasons"][1].startswith("guard: kept with ")


def test_gate_fails_on_one_set_without_a_sure_gain(state):
    easy, hard = pairs_named("easy"), pairs_named("hard")
    good, base = state("good", 0.1, easy, hard), state("base", 0.6, easy, hard)
    base.score_by_pair |= {pair: good.score_by_pair[pair] for pair in hard.texts}
    report = as_json(evaluate(good, [easy, hard], baseline=base, gate=Gate(), training_texts=set()))
    assert report["verdict"] == "fail"
    assert report["reasons"] == ["hard: the interval of the difference starts at +0.0000, need above 0"]


def test_gate_fails_where_nothing_can_be_said(state):
    pairs = pairs_named("seen")
    good, base = state("good", 0.1, pairs), state("base", 0.6, pairs)
    base.score_by_pair = dict.fromkeys(base.score_by_pair, 0.5)
    report = as_json(evaluate(good, [pairs], baseline=base, gate=Gate()))
    assert report["verdict"] == "fail"


def test_gate_fails_on_a_guard_that_lost_more_than_the_margin(state):
    pairs, guard = pairs_named("seen"), pairs_named("guard", graded=True)
    good, base = state("good", 0.1, pairs, guard), state("base", 0.6, pairs, guard)
    # Above the baseline on the set, below it on the guard.
    lost = state("base", 0.3, guard).score_by_pair
    base.score_by_pair |= {pair: guard_score(pair, guard) for pair in guard.texts}
    good.score_by_pair |= lost
    options = {"baseline": base, "guards": [guard], "training_texts": set()}
    report = as_json(evaluate(good, [pairs], gate=Gate(), **options))
    gain = report["guards"]["guard"]["difference"]
    assert gain["high"] < -0.03
    assert (report["verdict"], report["guard_results"]) == ("fail", {"guard": "lost"})
    (reason,) = report["reasons"]
    assert reason.startswith(f"guard: lost, the difference is {gain['spearman']:+.4f} [")
    margin = Gate(guard_margin=-gain["low"] + 1e-6)
    assert as_json(evaluate(good, [pairs], gate=margin, **options))["verdict"] == "pass"


def guard_score(pair: tuple[str, str], guard: PairSet) -> float:
    """What a perfect model says."""
    return next(row.target for row in guard.rows if (row.text_a, row.text_b) == pair)


def test_guard_need_not_gain(state):
    pairs, guard = pairs_named("seen"), pairs_named("guard")
    good, base = state("good", 0.1, pairs, guard), state("base", 0.6, pairs, guard)
    base.score_by_pair |= {pair: good.score_by_pair[pair] for pair in guard.texts}
    options = {"baseline": base, "guards": [guard], "training_texts": set()}
    report = as_json(evaluate(good, [pairs], gate=Gate(guard_margin=0), **options))
    assert report["guards"]["guard"]["difference"]["low"] == 0
    assert report["verdict"] == "pass"


def test_gate_fails_on_texts_that_were_trained_on(state):
    pairs, guard = pairs_named("seen"), pairs_named("guard")
    good, base = state("good", 0.1, pairs, guard), state("base", 0.6, pairs, guard)
    trained_on = ["SEEN  text 3", " seen other 7\n", "guard text 0", "something else"]
    report = as_json(
        evaluate(
            good, [pairs], baseline=base, guards=[guard], gate=Gate(), training_texts={text_hash(t) for t in trained_on}
        )
    )
    assert report["leaked_texts"] == {"seen": 2, "guard": 1}
    assert report["verdict"] == "fail"
    assert report["reasons"] == [
        "seen: 2 of its texts are among the training texts, need none",
        "guard: 1 of its texts are among the training texts, need none",
    ]


def test_gate_gives_every_reason_against(state):
    pairs, guard = pairs_named("seen"), pairs_named("guard")
    worse, base = state("good", 2.0, pairs, guard), state("base", 0.1, pairs, guard)
    trained_on = {text_hash("seen text 3")}
    report = as_json(evaluate(worse, [pairs], baseline=base, guards=[guard], gate=Gate(), training_texts=trained_on))
    assert [reason.split(":")[0] for reason in report["reasons"]] == ["seen", "guard", "seen"]


def test_tfidf_alone_does_not_depend_on_what_the_pairs_state(state, helpdesk):
    texts = [row.text for row in helpdesk[:60]]
    plain = PairSet("x", tuple(Pair(texts[i], texts[(7 * i) % 60], label=i % 2) for i in range(60)), "0" * 64)
    stated = replace(plain, rows=tuple(replace(row, tfidf=i / 60) for i, row in enumerate(plain.rows)))
    figures = [evaluate(state("good", 0.1, pairs), [pairs]).report.sets["x"].lexical for pairs in (plain, stated)]
    expected = spearmanr(tfidf_cosines(plain.texts), plain.target_P).statistic
    assert [entry.spearman for entry in figures] == pytest.approx([expected, expected])


def test_tokens_that_the_encoder_does_not_know_are_told(scorer, parse_page):
    rows = [Pair(f"The water was cold. \U0001f600{i}", "A cold drink of water.", label=i % 2) for i in range(NUM)]
    evaluation = evaluate(scorer, [PairSet("emoji", tuple(rows), "0" * 64)])
    # Four words and an unknown one in each first text, and five words in the second, which all pairs share.
    share = NUM / (5 * NUM + 5)
    assert evaluation.report.sets["emoji"].unknown_tokens == pytest.approx({"random": share})
    note = "20% of the tokens of emoji are unknown to the encoder random: texts that differ in these look equal"
    assert evaluation.report.notes == (note,)
    assert note in " ".join(parse_page(to_page(evaluation, [])).itertext())


def test_known_tokens_are_no_reason_for_a_note(scorer):
    rows = [Pair("The water was cold.", "A cold drink of water.", label=i % 2) for i in range(4)]
    report = evaluate(scorer, [PairSet("plain", tuple(rows), "0" * 64)]).report
    assert (report.sets["plain"].unknown_tokens, report.notes) == ({"random": 0.0}, ())


def judged(state, *, gate: bool = True, noise: float = 0.6):
    sets = [pairs_named("seen", grouped=True), pairs_named("graded", graded=True)]
    good, base = state("good", 0.1, *sets), state("base", noise, *sets)
    known = set() if gate else None
    return evaluate(good, sets, baseline=base, gate=Gate() if gate else None, training_texts=known), sets


def test_page_shows_every_set_and_the_verdict(state, parse_page):
    evaluation, sets = judged(state)
    text = " ".join(parse_page(to_page(evaluation, sets)).itertext())
    for shown in (
        "Evaluation of good",
        "seen",
        "graded",
        "The gate passes",
        as_json(evaluation)["bundle"]["digest"][:16],
    ):
        assert shown in text
    assert "groups of seen, texts of graded" in text


def test_page_of_a_failure_says_why(state, parse_page):
    evaluation, sets = judged(state, noise=0.1)
    text = " ".join(parse_page(to_page(evaluation, sets)).itertext())
    assert "The gate fails" in text
    assert as_json(evaluation)["reasons"][0] in text


def test_page_without_a_gate_gives_no_verdict(state, parse_page):
    evaluation, sets = judged(state, gate=False)
    text = " ".join(parse_page(to_page(evaluation, sets)).itertext())
    assert "The gate" not in text
    assert "Whether texts of these sets were trained on is unknown" in text


def test_page_without_a_baseline_is_well_formed(state, parse_page):
    pairs = pairs_named("seen")
    evaluation = evaluate(state("good", 0.1, pairs), [pairs], training_texts=set())
    text = " ".join(parse_page(to_page(evaluation, [pairs])).itertext())
    assert "Number of texts of these sets that were trained on: 0." in text


def test_page_shows_the_pairs_it_gets_most_wrong(state, parse_page):
    evaluation, sets = judged(state)
    text = " ".join(parse_page(to_page(evaluation, sets)).itertext())
    score_P, target_P = evaluation.scores["seen"]["bundle"], sets[0].target_P
    worst_positive = np.flatnonzero(target_P == 1)[score_P[target_P == 1].argmin()]
    worst_negative = np.flatnonzero(target_P == 0)[score_P[target_P == 0].argmax()]
    for index in (worst_positive, worst_negative):
        assert sets[0].rows[index].text_b in text


def test_page_ends_with_the_blocks_it_is_given(state, parse_page):
    evaluation, sets = judged(state)
    assert "the curves of training" in " ".join(
        parse_page(to_page(evaluation, sets, extra=[paragraph("the curves of training")])).itertext()
    )


def test_page_takes_hostile_text_for_text(state, parse_page):
    rows = tuple(Pair(f"{HOSTILE} {i % 40}", f"other {i} {HOSTILE}", label=i % 2) for i in range(NUM))
    pairs = PairSet(HOSTILE, rows, "0" * 64)
    evaluation = evaluate(state("good", 0.1, pairs), [pairs], baseline=state("base", 0.5, pairs), gate=Gate())
    page = to_page(evaluation, [pairs])
    root = parse_page(page)
    assert "<script" not in page
    assert len(list(root.iter("style"))) == 1
    assert HOSTILE in "".join(root.itertext())


def test_figures_that_are_not_numbers_are_set_as_gaps(state, parse_page):
    pairs = pairs_named("seen")
    constant = state("base", 0.1, pairs)
    constant.score_by_pair = dict.fromkeys(constant.score_by_pair, 0.5)
    evaluation = evaluate(state("good", 0.1, pairs), [pairs], baseline=constant, gate=Gate())
    page = to_page(evaluation, [pairs])
    parse_page(page)
    assert '="nan"' not in page


def test_scores_that_order_nothing_are_none_in_the_report_and_fail_the_gate(state, constant):
    pairs = pairs_named("judged")
    base = state("base", 1.0, pairs)
    evaluation = evaluate(constant("good", pairs), [pairs], baseline=base, gate=Gate(), training_texts=set())
    entry = as_json(evaluation)["sets"]["judged"]
    assert entry["bundle"]["spearman"] is None
    assert set(entry["difference"].values()) == {None}
    assert as_json(evaluation)["reasons"] == ["judged: got constant scores, need some that differ"]
    assert "NaN" not in json.dumps(as_json(evaluation))
    assert "judged" in to_page(evaluation, [pairs])
    assert "-" in " ".join(result_table(evaluation.report))


def test_two_groups_are_too_few_to_pass_the_gate(state):
    rows = [
        Pair(f"{a} {i}", f"{b} {i} too", label=int(a == b), group_a=a, group_b=b)
        for i in range(9)
        for a, b in (("x", "x"), ("y", "y"), ("x", "y"), ("y", "x"))
    ]
    pairs = PairSet("unseen", tuple(rows), "0" * 64)
    good, base = state("good", 0.1, pairs), state("base", 0.9, pairs)
    report = as_json(evaluate(good, [pairs], baseline=base, gate=Gate(), training_texts=set()))
    gain = report["sets"]["unseen"]["difference"]
    assert gain["spearman"] > 0
    assert (gain["low"], gain["high"]) == (None, None)
    assert report["verdict"] == "fail"
    assert report["reasons"] == ["unseen: got pairs of 2 groups, need at least 4 for an interval"]


def test_gate_fails_where_leaks_cannot_be_looked_for(state):
    pairs = pairs_named("seen")
    good, base = state("good", 0.1, pairs), state("base", 0.6, pairs)
    report = as_json(evaluate(good, [pairs], baseline=base, gate=Gate()))
    assert (report["verdict"], report["leaked_texts"]) == ("fail", None)
    assert report["reasons"][-1].startswith("the bundle's training texts are unknown")


def test_texts_that_the_baseline_was_trained_on_are_counted(state, tmp_path):
    pairs, guard = pairs_named("seen"), pairs_named("guard")
    good, base = state("good", 0.1, pairs, guard), state("base", 0.6, pairs, guard)
    hashes = {text_hash("seen text 3"), text_hash("something else")}
    manifest = base.bundle.manifest
    made = manifest.made.model_copy(update={"texts": texts_digest(hashes)})
    base.bundle = write_bundle(tmp_path / "base", manifest.model_copy(update={"made": made}), base.bundle.data, hashes)
    report = as_json(evaluate(good, [pairs], baseline=base, guards=[guard]))
    assert report["baseline_leaked_texts"] == {"seen": 1, "guard": 0}


def test_guard_that_the_bundle_orders_not_at_all_fails_the_gate(state, constant):
    pairs, guard = pairs_named("seen"), pairs_named("guard")
    good, base = state("good", 0.1, pairs, guard), state("base", 0.6, pairs, guard)
    good.score_by_pair |= dict.fromkeys(guard.texts, 0.5)
    report = as_json(evaluate(good, [pairs], baseline=base, guards=[guard], gate=Gate()))
    assert report["verdict"] == "fail"
    assert report["reasons"][0] == "guard: got constant scores of the bundle, need some that differ (the guard)"
