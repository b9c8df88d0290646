import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simile.artifacts import Pair
from training.losses import meanings_of, ranking_loss


def brute_force(embedding_TD, meaning_T, is_positive_P):
    """The definition, in loops."""
    unit_TD = embedding_TD / embedding_TD.norm(dim=1, keepdim=True)
    num, found = len(is_positive_P), []
    for i in range(num):
        for anchor, partner in ((i, i + num), (i + num, i)):
            if is_positive_P[i]:
                others = [j for j in range(2 * num) if meaning_T[j] != meaning_T[anchor]]
                score = {j: 20 * float(unit_TD[anchor] @ unit_TD[j]) for j in [partner, *others]}
                found.append(math.log(sum(math.exp(s) for s in score.values())) - score[partner])
    return sum(found) / len(found) if found else 0.0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8), st.integers(0, 99))
def test_ranking_loss_is_its_definition(meanings, seed):
    embedding_TD = torch.randn(2 * len(meanings), 6, generator=torch.Generator().manual_seed(seed))
    meaning_T = torch.tensor([a for a, _ in meanings] + [b for _, b in meanings])
    is_positive_P = torch.tensor([a == b for a, b in meanings])
    found = ranking_loss(embedding_TD, meaning_T, is_positive_P)
    assert float(found) == pytest.approx(brute_force(embedding_TD, meaning_T, is_positive_P), abs=1e-4)


def test_texts_of_the_anchors_meaning_do_not_repel_it():
    embedding_TD = torch.eye(4)
    all_mean_the_same = torch.zeros(4)
    loss = ranking_loss(embedding_TD, all_mean_the_same, torch.tensor([True, True]))
    assert float(loss) == 0


def test_batch_without_positive_pairs_has_a_loss_of_zero_that_can_be_differentiated():
    embedding_TD = torch.eye(4, requires_grad=True)
    loss = ranking_loss(embedding_TD, torch.arange(4), torch.tensor([False, False]))
    loss.backward()
    assert loss.item() == 0
    assert not embedding_TD.grad.any()


def test_texts_of_one_group_mean_the_same():
    pairs = [Pair("a", "b", label=1, group_a="x", group_b="x"), Pair("c", "a", label=0, group_a="y", group_b="x")]
    (a, b), (c, again) = meanings_of(pairs)
    assert a == b == again != c


def test_without_groups_positive_pairs_say_what_means_the_same():
    pairs = [Pair("a", "b", label=1), Pair("b", "c", label=1), Pair("d", "a", label=0), Pair("e", "f", score=1.0)]
    (a, b), (again, c), (d, _), (e, f) = meanings_of(pairs)
    assert a == b == again == c
    assert len({a, d, e, f}) == 4


def test_no_positive_pair_leaves_every_text_for_itself():
    assert meanings_of([Pair("a", "b", score=0.5), Pair("a", "c", score=0.1)]) == [(0, 1), (0, 2)]
