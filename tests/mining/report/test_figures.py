from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from mining.config import MineConfig
from mining.mine import mine
from mining.report.figures import describe
from simile.artifacts import MiningReport, PairSet
from simile.scoring import load
from simile.scoring.metrics import figures, tfidf_cosines

CONFIG = MineConfig(pairs=600, dev_share=0.05)


def as_target(pairs) -> PairSet:
    return PairSet("target", tuple(pairs), "0" * 64)


@pytest.fixture(scope="module")
def baseline(tiny):
    return load(tiny.path, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def some(helpdesk):
    """A third of the sample, which is mined in a third of the time."""
    return helpdesk[::3]


@pytest.fixture(scope="module")
def plain(helpdesk):
    return mine(helpdesk, CONFIG)


@pytest.fixture(scope="module")
def followed(helpdesk, plain, baseline):
    """Pairs mined with a target and a baseline, from a third of the sample: embedding it takes a second."""
    target = as_target(replace(pair, tfidf=None) for pair in plain.sets["dev-seen"][:300])
    return mine(helpdesk[::3], CONFIG, target, baseline=baseline)


def by_hand(pairs, feature):
    return spearmanr([feature(pair) for pair in pairs], [pair.label for pair in pairs]).statistic


def test_figures_of_each_set_are_those_of_its_pairs(plain):
    report = describe(plain)
    assert list(report.sets) == list(plain.sets)
    for name, pairs in plain.sets.items():
        entry = report.sets[name]
        negatives = [pair for pair in pairs if pair.label == 0]
        assert entry.pairs == len(pairs)
        assert entry.positives == sum(pair.label for pair in pairs)
        assert entry.texts == len({text for pair in pairs for text in (pair.text_a, pair.text_b)})
        assert entry.same_category_negatives == pytest.approx(np.mean([pair.same_category for pair in negatives]))
        assert (entry.baseline, entry.unknown_tokens) == (None, {})
        cosine_P = tfidf_cosines([(pair.text_a, pair.text_b) for pair in pairs])
        assert entry.alone.model_dump() == pytest.approx(
            {
                "tfidf": spearmanr(cosine_P, [pair.label for pair in pairs]).statistic,
                "length_ratio": by_hand(
                    pairs,
                    lambda pair: min(len(pair.text_a), len(pair.text_b)) / max(len(pair.text_a), len(pair.text_b)),
                ),
                "same_category": by_hand(pairs, lambda pair: pair.same_category),
            }
        )


def test_report_holds_the_config_and_the_facts(plain):
    report = describe(plain)
    assert report.config == CONFIG.model_dump(mode="json")
    assert dict(report).items() >= dict(plain.facts).items()
    assert (report.target, report.match, report.warnings) == (None, None, ())


def test_baseline_figures_are_those_of_its_scores(followed, baseline):
    report = describe(followed)
    for name, pairs in followed.sets.items():
        score_P = baseline.score([(pair.text_a, pair.text_b) for pair in pairs])
        label_P = np.array([pair.label for pair in pairs])
        expected = figures(score_P, label_P, is_graded=False)
        baseline_figures = report.sets[name].baseline
        assert {key: getattr(baseline_figures, key) for key in expected} == pytest.approx(expected, abs=1e-5)
        middle = [np.median(score_P[label_P == label]) for label in (0, 1)]
        crossed = np.mean(score_P[label_P == 1] < middle[0]), np.mean(score_P[label_P == 0] > middle[1])
        assert baseline_figures.positives_below_negatives == pytest.approx(crossed[0], abs=0.01)
        assert baseline_figures.negatives_above_positives == pytest.approx(crossed[1], abs=0.01)


def test_match_with_the_target_is_reported_per_class(followed):
    report = describe(followed)
    match = report.match
    assert set(match.adversarial) == set(match.distance) == {"positive", "negative"}
    for name in ("positive", "negative"):
        shares = [(cell.share(name).target, cell.share(name).mined) for cell in match.joint]
        assert np.sum(shares, axis=0).tolist() == pytest.approx([1, 1])
        assert match.distance[name] == pytest.approx(sum(abs(a - b) for a, b in shares) / 2)
        assert match.distance[name] < 0.3
    assert report.target.pairs == len(followed.target.pairs)
    assert report.suspects.of > report.suspects.found >= 0


def test_report_is_read_back_the_same_from_json(plain, followed, helpdesk):
    bands = mine(helpdesk, MineConfig(strategy="bands", pairs=100, dev_share=0))
    for mined in (plain, followed, bands):
        report = describe(mined)
        assert MiningReport.model_validate_json(report.model_dump_json()) == report


def warnings_of(mined) -> tuple[str, ...]:
    return describe(mined).warnings


def test_band_that_strategy_bands_does_not_use_for_training_pairs_is_warned_of(some):
    config = MineConfig(strategy="bands", pairs=100, band=(0.1, 0.2), negative_band=(0.1, 0.4))
    (warning,) = setting_warnings(mine(some, config))
    assert warning.startswith("--band applied to the held-out sets only: strategy 'bands' takes positives with")
    assert "0.3-0.5 (--positive-band)" in warning
    assert "0.1-0.4 (--negative-band)" in warning


@pytest.mark.parametrize(
    ("strategy", "instead"),
    [
        ("matched", "takes both classes from one band, 0.05-0.5 (--band, or the target's)"),
        ("curriculum", "sets the bands of its first phases itself, and the last one's is 0.05-0.5"),
    ],
)
def test_bands_of_another_strategy_are_warned_of(some, strategy, instead):
    # They are the defaults, but were given explicitly.
    config = MineConfig(strategy=strategy, pairs=60, positive_band=(0.3, 0.5), negative_band=(0.15, 0.45), dev_share=0)
    warnings = setting_warnings(mine(some, config))
    assert warnings == [f"--positive-band and --negative-band had no effect: strategy '{strategy}' {instead}"]


def test_same_category_share_that_the_target_overrules_is_warned_of(some, plain):
    config, rows = MineConfig(pairs=60, dev_share=0, same_category=0.2), plain.sets["pairs"][:200]
    (warning,) = setting_warnings(mine(some, config, as_target(rows)))
    assert warning.startswith("--same-category had no effect: the target states")
    silent = [replace(pair, same_category=None, group_a=None, group_b=None) for pair in rows]
    assert setting_warnings(mine(some, config, as_target(silent))) == []
    assert setting_warnings(mine(some, config)) == []


@pytest.mark.parametrize("strategy", ["matched", "bands", "curriculum"])
def test_settings_left_at_their_defaults_are_not_warned_of(plain, strategy):
    assert setting_warnings(replace(plain, config=MineConfig(strategy=strategy))) == []


def setting_warnings(mined) -> list[str]:
    """Return the warnings of settings that had no effect."""
    return [text for text in warnings_of(mined) if text.startswith("--")]


def test_constant_feature_has_no_figure(some):
    report = describe(mine([replace(row, category=None) for row in some], CONFIG))
    assert report.training.alone.same_category is None
    assert report.training.same_category_negatives is None


def test_noisy_labels_are_warned_of(some):
    (warning,) = warnings_of(mine([replace(row, group=None) for row in some], CONFIG))
    assert "the documents have no groups" in warning
    assert "noisy" in warning


def test_too_few_pairs_are_warned_of(some):
    config = MineConfig(pairs=100_000)
    mined = mine(some[:200], config)
    assert f"the documents yield {len(mined.sets['pairs']):,} pairs, 100,000 were asked for" in warnings_of(mined)


def test_held_out_set_that_cannot_be_made_is_warned_of(some):
    groups = list(dict.fromkeys(row.group for row in some))
    few = [row for row in some if row.group in groups[:3]]
    mined = mine(few, MineConfig(pairs=60, dev_share=0.05))
    assert "dev-unseen" not in mined.sets
    assert "no dev-unseen with --dev-share 0.05: there are too few groups" in warnings_of(mined)


def test_dev_sets_too_small_to_choose_by_are_not_made_unless_a_share_asks_for_them(some):
    mined = mine(some[:300], MineConfig(pairs=60))
    assert set(mined.sets) == {"pairs"}
    assert mined.facts.split["train"].documents == 300 - sum(mined.facts.dropped.values())
    expected = "no dev-seen and no dev-unseen: there are too few documents for 100 pairs, so all are trained on"
    assert expected in warnings_of(mined)
    assert "dev-unseen" in mine(some[:300], MineConfig(pairs=60, dev_share=0.1)).sets


@pytest.mark.parametrize(("num", "says"), [(99, True), (100, False)])
def test_missing_dev_sets_are_told_of_unless_the_labelled_target_is_one(some, num, says):
    pairs = mine(some, MineConfig(pairs=400, dev_share=0)).sets["pairs"]
    target = as_target(replace(pair, tfidf=None) for pair in pairs[:num])
    told = [text for text in warnings_of(mine(some[:300], MineConfig(pairs=60), target)) if "no dev-seen" in text]
    assert bool(told) == says


def test_tiers_have_figures_and_are_shown_where_there_are_several(some, baseline):
    mined = mine(some[:300], MineConfig(pairs=3000, dev_share=0), baseline=baseline)
    report = describe(mined)
    assert [*report.tiers] == ["matched", "group"]
    assert sum(tier.pairs for tier in report.tiers.values()) == report.training.pairs == len(mined.sets["pairs"])
    # Random pairs of the groups differ in words, and only there that is meant.
    assert abs(report.tiers["matched"].alone.tfidf) < 0.1 < report.tiers["group"].alone.tfidf
    assert not [text for text in report.warnings if "TF-IDF alone reaches" in text]
    assert [*report.shown_sets] == ["pairs", "tier matched", "tier group"]


def test_target_is_compared_with_the_pairs_of_its_tier(some):
    target = mine(some, MineConfig(pairs=200, dev_share=0)).sets["pairs"]
    mined = mine(some, MineConfig(pairs=6000, dev_share=0), as_target(target))
    report = describe(mined)
    assert set(report.tiers) >= {"target", "matched"}
    alone = replace(mined, sets={"pairs": [pair for pair in mined.sets["pairs"] if pair.tier == "target"]})
    assert report.match == describe(alone).match


def test_held_out_set_without_pairs_of_both_classes_is_warned_of(plain):
    del (sets := dict(plain.sets))["dev-seen"]
    (warning,) = warnings_of(replace(plain, sets=sets))
    assert warning.startswith("no dev-seen with --dev-share 0.05: ")
    assert warning.endswith("groups yield no pairs of both classes")


def test_dev_set_that_does_not_follow_the_target_is_warned_of(plain):
    (warning,) = warnings_of(replace(plain, facts=plain.facts.model_copy(update={"unlike_target": ("dev-seen",)})))
    documents = plain.facts.split["dev-seen"].documents
    assert warning.startswith(
        f"dev-seen does not follow the target: its {documents} documents yield too few such pairs"
    )


def test_held_out_sets_that_were_not_asked_for_are_not_warned_of(some):
    config = MineConfig(pairs=60, dev_share=0)
    assert warnings_of(mine(some, config)) == ()


def test_shortcut_is_warned_of(some):
    config = MineConfig(strategy="bands", pairs=200, dev_share=0)
    assert any(
        warning.startswith("TF-IDF alone reaches Spearman 0.") and "training pairs" in warning
        for warning in warnings_of(mine(some, config))
    )


def test_target_that_is_not_followed_is_warned_of(some, plain):
    config = MineConfig(strategy="bands", pairs=200, dev_share=0)
    mined = mine(some, config, as_target(plain.sets["pairs"][:50]))
    assert any("do not follow the target" in warning for warning in warnings_of(mined))


def test_target_without_labels_or_categories_is_warned_of(some, plain):
    bare = [
        replace(pair, label=None, same_category=None, group_a=None, group_b=None) for pair in plain.sets["pairs"][:200]
    ]
    warnings = warnings_of(mine(some, MineConfig(pairs=100, dev_share=0), as_target(bare)))
    assert any("the target has no labels: half of its pairs were guessed" in warning for warning in warnings)
    assert any("do not state if they are of one category" in warning for warning in warnings)
    for without in ("category", "group"):
        rows = [replace(row, **{without: None}) for row in some]
        warnings = warnings_of(mine(rows, MineConfig(pairs=100, dev_share=0), as_target(bare)))
        assert not any("do not state if they are of one category" in warning for warning in warnings)


def test_shortcut_of_the_target_is_warned_of(some):
    target = mine(some, MineConfig(strategy="bands", pairs=300, dev_share=0)).sets["pairs"]
    mined = mine(some, MineConfig(pairs=60, dev_share=0), as_target(target))
    assert any("on the target: its pairs were weighted" in warning for warning in warnings_of(mined))


def test_pairs_of_the_target_outside_the_band_are_warned_of(helpdesk, plain):
    target = plain.sets["dev-unseen"]
    num = sum(not 0.1 <= pair.tfidf <= 0.2 for pair in target)
    mined = mine(helpdesk, MineConfig(pairs=100, band=(0.1, 0.2), dev_share=0), as_target(target))
    outside = [warning for warning in warnings_of(mined) if "outside the band" in warning]
    assert len(outside) == 1
    # The fifth digit of a cosine on the edge decides on which side it falls.
    assert abs(int(outside[0].split()[0].replace(",", "")) - num) <= 3


def test_a_single_category_is_warned_of(some):
    warnings = warnings_of(mine([replace(row, category="all") for row in some], CONFIG))
    assert warnings == ("the documents have one category only: all pairs are of one category",)


def test_documents_left_out_without_a_group_are_warned_of(some):
    rows = (*some, replace(some[0], id="new", text="a text of its own", group=None))
    (warning,) = warnings_of(mine(rows, CONFIG))
    assert warning == "1 documents have no group and were left out"


def test_cut_texts_are_warned_of(some):
    rows = [replace(row, is_cut=i < 3) for i, row in enumerate(some)]
    assert warnings_of(mine(rows, CONFIG)) == ("3 texts were too long and were cut",)


def test_a_sample_of_the_documents_is_warned_of(helpdesk, monkeypatch):
    monkeypatch.setattr("mining.config.MIN_DOCUMENTS", 2000)
    (warning,) = warnings_of(mine(helpdesk, CONFIG))
    assert warning.endswith("of 4,368 documents, over all groups")


def test_tokens_that_the_baseline_does_not_know_are_warned_of(helpdesk, tiny, baseline):
    rows = [replace(row, text=f"{row.text} \U0001f600") for row in helpdesk[:600]]
    mined = mine(rows, MineConfig(pairs=60, dev_share=0), baseline=baseline)
    report, base = describe(mined), tiny.manifest.members[0].base
    texts = {text for pair in mined.sets["pairs"] for text in (pair.text_a, pair.text_b)}
    ids = [text.ids for text in baseline.members[0].tokenize(sorted(texts))]
    # [UNK] is the second word of the tiny vocabulary; [CLS] and [SEP] are in every text.
    share = sum((of_text == 1).sum() for of_text in ids) / sum(len(of_text) - 2 for of_text in ids)
    assert share > 0.05
    assert report.training.unknown_tokens == pytest.approx({base: share})
    note = f"of the tokens of pairs are unknown to the encoder {base}: texts that differ in these look equal"
    assert [text for text in report.warnings if "tokens of pairs" in text] == [f"{share:.0%} {note}"]
