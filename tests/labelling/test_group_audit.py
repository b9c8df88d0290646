"""Groups that look like one, and groups that look like two."""

import itertools

import numpy as np
import pytest

from labelling.evidence import normalized
from labelling.group_audit import affinity, audit_groups, questions


class Embeddings:
    """A scorer whose texts are the numbers of rows of a table."""

    has_sides = False

    def __init__(self, table_ND):
        self.table_ND = table_ND

    def embed(self, texts, *, side=None):
        return self.table_ND[[int(text) for text in texts]]


@pytest.fixture
def topics():
    """Six topics of 12 texts each: name of each text's topic, and a scorer."""
    rng = np.random.default_rng(0)
    centre_GD = normalized(rng.normal(size=(6, 32)))
    table_ND = normalized(np.repeat(centre_GD, 12, axis=0) + 0.8 * normalized(rng.normal(size=(72, 32))))
    return [f"topic {number // 12}" for number in range(72)], Embeddings(table_ND)


def texts(names):
    return [(str(number), name) for number, name in enumerate(names)]


def test_affinity_is_that_of_brute_force():
    rng = np.random.default_rng(0)
    a_ND, b_ND = (normalized(rng.normal(size=(num, 4)) + 1) for num in (3, 5))

    def mean(pairs):
        return np.mean([x @ y for x, y in pairs])

    within = (mean(itertools.combinations(a_ND, 2)) + mean(itertools.combinations(b_ND, 2))) / 2
    assert affinity(a_ND, b_ND) == pytest.approx(mean(itertools.product(a_ND, b_ND)) / within)


def test_group_under_two_names_looks_like_one(topics):
    names, scorer = topics
    renamed = [f"{name} again" if name == "topic 2" and index % 2 else name for index, name in enumerate(names)]
    first, second = audit_groups(texts(renamed), scorer).alike[:2]
    assert {first.group_a, first.group_b} == {"topic 2", "topic 2 again"}
    assert first.affinity == pytest.approx(1, abs=0.2)
    assert second.affinity < 0.5


def test_two_groups_under_one_name_look_like_two(topics):
    names, scorer = topics
    merged = ["topic 4" if name == "topic 5" else name for name in names]
    first = audit_groups(texts(merged), scorer).divided[0]
    assert first.group_a == first.group_b == "topic 4"
    parts = [{int(text) // 12 for text in shown} for shown in (first.texts_a, first.texts_b)]
    assert sorted(parts, key=min) == [{4}, {5}]


def test_questions_ask_for_the_label_that_the_groups_imply(topics):
    names, scorer = topics
    asked = questions(audit_groups(texts(names), scorer, limit=2))
    assert [one.pair.label for one in asked] == [int(one.pair.group_a == one.pair.group_b) for one in asked]
    assert {one.pair.label for one in asked} == {0, 1}
    assert [one.suspicion for one in asked] == sorted((one.suspicion for one in asked), reverse=True)


def test_groups_of_too_few_texts_are_left_out(topics):
    _, scorer = topics
    findings = audit_groups([("0", "a"), ("0", "a"), ("1", "a"), ("2", "b"), ("3", "b")], scorer)
    assert (findings.alike, findings.divided) == ((), ())
