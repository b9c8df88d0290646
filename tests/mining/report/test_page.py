from dataclasses import replace

import pytest

from mining.config import MineConfig
from mining.mine import mine
from mining.report.figures import describe
from mining.report.page import to_page
from simile.artifacts import PairSet
from simile.scoring import load

HOSTILE = "<script>alert(1)</script> \"'&</style>]]>"
CONFIG = MineConfig(pairs=400)


@pytest.fixture(scope="module")
def plain(helpdesk):
    return mine(helpdesk, CONFIG)


@pytest.fixture(scope="module")
def followed(helpdesk, plain, tiny):
    """Pairs mined with a target and a baseline, from a third of the sample: embedding it takes a second."""
    target = PairSet("target", tuple(plain.sets["dev-seen"][:300]), "0" * 64)
    return mine(helpdesk[::3], CONFIG, target, baseline=load(tiny.path, device="cpu", precision="fp32"))


def text_of(root) -> str:
    return " ".join(root.itertext())


def test_page_shows_every_set_and_every_warning(plain, parse_page):
    report = describe(plain).model_copy(update={"warnings": ("beware of the dog",)})
    text = text_of(parse_page(to_page(report, plain)))
    for shown in (*plain.sets, "beware of the dog", "400 training pairs from 4,368 documents in 156 groups"):
        assert shown in text
    assert "Can mined pairs be told from the target's?" not in text


def test_page_shows_the_hardest_pairs_of_each_class(plain, parse_page):
    text = text_of(parse_page(to_page(describe(plain), plain)))
    pairs = plain.sets["pairs"]
    least = min((pair for pair in pairs if pair.label == 1), key=lambda pair: pair.tfidf)
    most = max((pair for pair in pairs if pair.label == 0), key=lambda pair: pair.tfidf)
    for pair in (least, most):
        assert pair.text_a in text
        assert pair.text_b in text


def test_page_shows_the_match_with_the_target(followed, parse_page):
    report = describe(followed)
    text = text_of(parse_page(to_page(report, followed)))
    for shown in (
        "Can mined pairs be told from the target's?",
        "TF-IDF cosine, target",
        "baseline's score, mined",
        "positive, target",
        f"{report.suspects.found:,} of {report.suspects.of:,} negative candidates",
        "they were left out",
    ):
        assert shown in text
    assert f"{report.match.distance['positive']:.1%}" in text


def test_page_states_that_false_negatives_were_kept(followed, parse_page):
    kept = replace(followed, config=CONFIG.model_copy(update={"false_negatives": "report"}))
    assert "they were kept" in text_of(parse_page(to_page(describe(kept), kept)))


def test_page_escapes_hostile_text(plain, parse_page):
    def hostile(pair):
        return replace(pair, text_a=HOSTILE + pair.text_a, text_b=pair.text_b + HOSTILE, group_a=HOSTILE)

    sets = {
        f"{name}{HOSTILE}" if name != "pairs" else name: [*map(hostile, pairs)] for name, pairs in plain.sets.items()
    }
    spoilt = replace(plain, sets=sets)
    report = describe(spoilt).model_copy(update={"warnings": (HOSTILE,), "config": {"documents": HOSTILE}})
    page = to_page(report, spoilt)
    root = parse_page(page)
    assert "<script" not in page
    assert len(list(root.iter("style"))) == 1
    assert HOSTILE in "".join(root.itertext())


def test_the_same_pairs_give_the_same_page(followed):
    report = describe(followed)
    assert to_page(report, followed) == to_page(report, followed)
