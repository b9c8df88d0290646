import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from mining.config import MineConfig
from mining.mine import Mined, mine
from mining.report import describe, to_page
from simile.artifacts import Documents, PairSet
from simile.scoring import Scored, load

HOSTILE = "<script>alert(1)</script> \"'&</style>]]>"
CONFIG = MineConfig(pairs=600)


@pytest.fixture(scope="module")
def mined(helpdesk):
    return mine(helpdesk, CONFIG)


@pytest.fixture(scope="module")
def baseline(helpdesk, write_lexical, tmp_path_factory):
    path = tmp_path_factory.mktemp("x") / "bundle"
    return load(write_lexical(path, [row.text for row in helpdesk.rows]).path, device="cpu", precision="fp32")


def by_hand(pairs, feature):
    return spearmanr([feature(pair) for pair in pairs], [pair.label for pair in pairs]).statistic


def test_figures_of_each_set_are_what_its_pairs_say(mined):
    report = describe(mined, None, CONFIG.model_dump(mode="json"))
    assert list(report["sets"]) == list(mined.sets)
    for name, pairs in mined.sets.items():
        entry = report["sets"][name]
        negatives = [pair for pair in pairs if pair.label == 0]
        assert entry["pairs"] == len(pairs)
        assert entry["positives"] == sum(pair.label for pair in pairs)
        assert entry["texts"] == len({text for pair in pairs for text in (pair.text_a, pair.text_b)})
        assert entry["same_category_negatives"] == pytest.approx(np.mean([pair.same_category for pair in negatives]))
        assert entry["baseline"] is None
        assert entry["alone"] == pytest.approx(
            {
                "tfidf": by_hand(pairs, lambda pair: pair.tfidf),
                "length_ratio": by_hand(
                    pairs,
                    lambda pair: min(len(pair.text_a), len(pair.text_b)) / max(len(pair.text_a), len(pair.text_b)),
                ),
                "same_category": by_hand(pairs, lambda pair: pair.same_category),
            }
        )


def test_report_holds_the_config_and_the_facts(mined):
    report = describe(mined, None, CONFIG.model_dump(mode="json"))
    assert report["config"] == CONFIG.model_dump(mode="json")
    assert report.items() >= mined.facts.items()
    assert report["warnings"] == []


def test_baseline_is_measured_by_its_own_scores(mined, baseline):
    report = describe(mined, baseline, {})
    for name, pairs in mined.sets.items():
        found = report["sets"][name]["baseline"]
        measured = pairs[: report["baseline_pairs"]]
        score_P = baseline.score([(pair.text_a, pair.text_b) for pair in measured])
        expected = spearmanr(score_P, [pair.label for pair in measured]).statistic
        assert set(found) == {"spearman", "auc", "separability", "overlap"}
        assert found["spearman"] == pytest.approx(expected, abs=1e-9)


def test_report_is_json_for_machines_other_than_ours(mined, baseline, helpdesk):
    for config in (CONFIG, MineConfig(recipe="bands", pairs=100)):
        report = describe(mine(helpdesk, config), baseline, config.model_dump(mode="json"))
        assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_feature_that_says_nothing_has_no_figure(helpdesk):
    rows = tuple(replace(row, category=None) for row in helpdesk.rows)
    report = describe(mine(Documents(rows, 0), CONFIG), None, {})
    assert report["sets"]["pairs"]["alone"]["same_category"] is None
    assert report["sets"]["pairs"]["same_category_negatives"] is None


def test_noisy_labels_are_warned_of(helpdesk):
    rows = tuple(replace(row, group=None) for row in helpdesk.rows)
    (warning,) = describe(mine(Documents(rows, 0), CONFIG), None, {})["warnings"]
    assert "the documents have no groups" in warning
    assert "noisy" in warning


def test_too_few_pairs_are_warned_of(helpdesk):
    documents = Documents(helpdesk.rows[:200], 0)
    mined = mine(documents, MineConfig(pairs=100_000))
    warnings = describe(mined, None, {})["warnings"]
    assert f"the documents give {len(mined.sets['pairs']):,} pairs, 100,000 were wanted" in warnings


def test_shortcut_is_warned_of(helpdesk):
    warnings = describe(mine(helpdesk, MineConfig(recipe="bands", pairs=200)), None, {})["warnings"]
    assert any(warning.startswith("TF-IDF alone reaches Spearman 0.") for warning in warnings)


def test_target_that_is_not_followed_is_warned_of(helpdesk, mined):
    target = PairSet("target", tuple(mined.sets["pairs"][:50]), "0" * 64)
    warnings = describe(mine(helpdesk, MineConfig(recipe="bands", pairs=200), target), None, {})["warnings"]
    assert any("its TF-IDF is not followed" in warning for warning in warnings)


def test_documents_left_out_for_want_of_a_group_are_warned_of(helpdesk):
    rows = (*helpdesk.rows, replace(helpdesk.rows[0], id="new", text="a text of its own", group=None))
    (warning,) = describe(mine(Documents(rows, 0), CONFIG), None, {})["warnings"]
    assert warning == "1 documents have no group: they were left out"


def test_baseline_that_scores_all_pairs_alike_is_told_in_json_that_json_has(mined):
    class Constant:
        members = ("constant",)

        def score_members(self, pairs, on_progress):
            return Scored(np.zeros(len(pairs), dtype=np.float32), {}, 0, 0, 0)

    report = describe(mined, Constant(), {})
    assert report["sets"]["pairs"]["baseline"]["spearman"] is None
    assert "NaN" not in json.dumps(report)


def test_cut_texts_are_warned_of(helpdesk):
    (warning,) = describe(mine(Documents(helpdesk.rows, 3), CONFIG), None, {})["warnings"]
    assert warning == "3 texts were too long and were cut"


def test_page_shows_every_set_and_every_warning(mined, baseline, parse_page):
    report = describe(mined, baseline, CONFIG.model_dump(mode="json")) | {"warnings": ["beware of the dog"]}
    text = " ".join(parse_page(to_page(report, mined)).itertext())
    for shown in (*mined.sets, "beware of the dog", "600 training pairs from 4,368 documents in 156 groups"):
        assert shown in text


def test_page_shows_the_hardest_pairs_of_each_class(mined, parse_page):
    text = " ".join(parse_page(to_page(describe(mined, None, {}), mined)).itertext())
    pairs = mined.sets["pairs"]
    least = min((pair for pair in pairs if pair.label == 1), key=lambda pair: pair.tfidf)
    most = max((pair for pair in pairs if pair.label == 0), key=lambda pair: pair.tfidf)
    for pair in (least, most):
        assert pair.text_a in text
        assert pair.text_b in text


def test_page_takes_hostile_text_for_text(mined, parse_page):
    def hostile(pair):
        return replace(pair, text_a=HOSTILE + pair.text_a, text_b=pair.text_b + HOSTILE, group_a=HOSTILE)

    pairs = {f"{name}{HOSTILE}" if name != "pairs" else name: [*map(hostile, of)] for name, of in mined.sets.items()}
    spoilt = Mined(pairs, mined.facts)
    page = to_page(describe(spoilt, None, {"documents": HOSTILE}) | {"warnings": [HOSTILE]}, spoilt)
    root = parse_page(page)
    assert "<script" not in page
    assert len(list(root.iter("style"))) == 1
    assert HOSTILE in "".join(root.itertext())


def test_the_same_pairs_give_the_same_page(mined):
    report = describe(mined, None, {})
    assert to_page(report, mined) == to_page(report, mined)
