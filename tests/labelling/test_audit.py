"""The audit: flipped labels come first, and no label informs its own judgement."""

import numpy as np
import pytest

from labelling.audit import audit, evidence_of, folds_of, judge
from labelling.evidence import Evidence, Known, cosines
from simile.artifacts import Pair, PairSet
from simile.errors import InputError
from simile.scoring import load
from tests.labelling.pairs_of_topics import labelled

NUM_FLIPPED = 20


def pair_set(rows):
    return PairSet("pairs", tuple(rows), "0" * 64)


def some_pairs(helpdesk, num=30, **wrong):
    """Returns pairs of the sample's documents, half of one group, with their groups."""
    by_group = {}
    for document in helpdesk:
        by_group.setdefault(document.group, []).append(document.text)
    groups = sorted(by_group)[:num]
    same = [(by_group[group][0], by_group[group][1], group, group) for group in groups]
    other = [(by_group[a][0], by_group[b][1], a, b) for a, b in zip(groups, groups[1:] + groups[:1], strict=True)]
    return [Pair(a, b, int(x == y), group_a=x, group_b=y) for a, b, x, y in same + other]


def test_most_flipped_labels_come_first_where_the_cosine_alone_finds_half():
    evidence, pair_P2, label_P = labelled()
    flipped = np.random.default_rng(1).choice(len(label_P), NUM_FLIPPED, replace=False)
    given_P = label_P.copy()
    given_P[flipped] = 1 - given_P[flipped]
    cosine_P = cosines(evidence.embedding_ND, pair_P2)

    def num_found(suspicion_P):
        return len(set(np.argsort(-suspicion_P)[:NUM_FLIPPED]) & set(flipped))

    assert num_found(np.where(given_P == 1, -cosine_P, cosine_P - 1)) <= NUM_FLIPPED // 2
    assert num_found(judge(evidence, pair_P2, given_P).suspicion_P) >= 0.75 * NUM_FLIPPED


def test_own_label_does_not_inform_the_judgement():
    evidence, pair_P2, label_P = labelled(num_pairs=200)
    flipped_P = label_P.copy()
    flipped_P[7] = 1 - flipped_P[7]
    before, after = judge(evidence, pair_P2, label_P), judge(evidence, pair_P2, flipped_P)
    # The same probability of each label, so the suspicion of the opposite label is the complement.
    assert after.suspicion_P[7] == 1 - before.suspicion_P[7]
    assert np.array_equal(after.feature_PF[7], before.feature_PF[7])
    # The label does inform the judgement of others.
    assert not np.array_equal(np.delete(after.suspicion_P, 7), np.delete(before.suspicion_P, 7))


def test_pairs_of_the_same_two_texts_are_in_one_fold():
    pair_P2 = np.array([(index, index + 1) for index in range(0, 80, 2)])
    pair_P2 = np.concatenate([pair_P2, pair_P2[:, ::-1]])
    for train_P, test_P in folds_of(pair_P2, 10, 0):
        assert {frozenset(pair) for pair in pair_P2[train_P]}.isdisjoint({frozenset(pair) for pair in pair_P2[test_P]})


def test_features_of_a_pair_count_shared_partners_as_brute_force_does():
    embedding_ND = np.eye(5)
    known = Known(np.array([(0, 1), (1, 2), (0, 3), (3, 4), (2, 4)]), np.array([1, 1, 1, 0, 1]))
    feature_PF = Evidence(("red", "blue", "green", "pink", "grey"), embedding_ND).features(
        known, np.array([(0, 2), (0, 4)])
    )
    # 0 and 2 share partner 1; 0 and 4 share none, and 3 is a partner of 0 that differs from 4.
    assert np.expm1(feature_PF[:, -2]) == pytest.approx([1, 0])
    assert np.expm1(feature_PF[:, -1]) == pytest.approx([0, 1])


def test_label_that_contradicts_the_groups_comes_first_with_its_reason(helpdesk, tiny):
    rows = some_pairs(helpdesk)
    wrong = 3
    rows[wrong] = Pair(
        rows[wrong].text_a, rows[wrong].text_b, 0, group_a=rows[wrong].group_a, group_b=rows[wrong].group_b
    )
    suspects = audit(pair_set(rows), load(tiny.path, device="cpu"))
    assert suspects[0].pair == rows[wrong]
    assert suspects[0].reason == "The label says different, but the two texts are in the same group."
    assert [one.suspicion for one in suspects] == sorted((one.suspicion for one in suspects), reverse=True)
    assert suspects[-1].reason == "More speaks for this label than against it."


def test_spellings_of_a_text_are_one_text(helpdesk, tiny):
    rows = [Pair("Reset my password", "log in", 1), Pair("reset  my PASSWORD", "pay", 0)]
    evidence, pair_P2 = evidence_of(pair_set(rows), load(tiny.path, device="cpu"))
    assert len(evidence.texts) == 3
    assert pair_P2[0, 0] == pair_P2[1, 0]


def test_too_few_pairs_of_a_label_are_refused(tiny):
    rows = [Pair(f"a {index}", f"b {index}", int(index < 9)) for index in range(40)]
    with pytest.raises(InputError, match="got 9 different pairs with label 1, need at least 10 of each"):
        audit(pair_set(rows), load(tiny.path, device="cpu"))


def test_graded_pairs_are_refused(tiny):
    with pytest.raises(InputError, match="need 'label' 0 or 1"):
        audit(pair_set([Pair("a", "b", score=0.5), Pair("c", "d", score=0.1)]), load(tiny.path, device="cpu"))
