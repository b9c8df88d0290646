import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simile.artifacts import Pair
from training.losses import FocalLoss, PairLoss, embed, loss_label, ranking_loss, same_meaning
from training.torch_encoder import load_encoder


def brute_force(embedding_TD, meaning_T):
    """Return the loss by its definition in loops; every text has one meaning, and no two texts are equal."""
    unit_TD = embedding_TD / embedding_TD.norm(dim=1, keepdim=True)
    losses = []
    for anchor in range(len(meaning_T)):
        score = [20 * float(unit_TD[anchor] @ unit_TD[j]) for j in range(len(meaning_T))]
        others = sum(math.exp(score[j]) for j in range(len(meaning_T)) if meaning_T[j] != meaning_T[anchor])
        partners = [j for j in range(len(meaning_T)) if j != anchor and meaning_T[j] == meaning_T[anchor]]
        losses += [math.log(math.exp(score[partner]) + others) - score[partner] for partner in partners]
    return sum(losses) / len(losses) if losses else 0.0


def ranked(embedding_TD, meaning_T, is_positive_P):
    """Return the loss of texts that are all different."""
    return ranking_loss(embedding_TD, torch.arange(len(meaning_T)), meaning_T, is_positive_P)


def labels(pairs):
    """Return the labels as the trainer gives them to the loss."""
    return torch.tensor([loss_label(pair) for pair in pairs], dtype=torch.float64)


def columns(pairs):
    """Return the columns of the labels: target, positive, texts, groups."""
    target_P, is_positive_P, *rest = labels(pairs).unbind(1)
    return target_P.tolist(), is_positive_P.tolist(), torch.cat(rest[:2]), torch.cat(rest[2:4])


def test_groups_of_several_files_are_one_whatever_their_spelling():
    pairs = [Pair("a", "b", 1, group_a="card", group_b="Card "), Pair("c", "d", 0, group_a="17.0", group_b="17")]
    card, number, *others = columns(pairs)[3].tolist()
    assert others == [card, number]
    assert card != number


def test_pairs_of_the_groups_teach_ranking_only(make_base):
    model = load_encoder(str(make_base("bert"))).model
    hard = [Pair("a b", "c d", 1, tier="target"), Pair("e f", "g h", 0, tier="matched"), Pair("i j", "k l", 0)]
    easy = [Pair("m n", "o p", 1, tier="group"), Pair("q r", "s t", 0, tier="group")]
    model.eval()

    def losses(pairs, weights):
        columns = [model.preprocess([getattr(pair, name) for pair in pairs]) for name in ("text_a", "text_b")]
        values = PairLoss(model, weights)(columns, labels(pairs))
        return {name: value.item() for name, value in values.items()}

    both = {"ranking": 1.0, "cosent": 0.3}
    assert losses([*hard, *easy], both)["cosent"] == pytest.approx(losses(hard, both)["cosent"], rel=1e-3)
    assert losses([*hard, *easy], both)["ranking"] > losses(hard, both)["ranking"]
    assert losses(easy, both)["cosent"] == 0
    # Without ranking, nothing else would learn from them.
    assert losses([*hard, *easy], {"cosent": 0.3})["cosent"] > losses(hard, {"cosent": 0.3})["cosent"]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8), st.integers(0, 99))
def test_ranking_loss_is_its_definition(meanings, seed):
    embedding_TD = torch.randn(2 * len(meanings), 6, generator=torch.Generator().manual_seed(seed))
    meaning_T = torch.tensor([a for a, _ in meanings] + [b for _, b in meanings])
    is_positive_P = torch.tensor([a == b for a, b in meanings])
    loss = ranked(embedding_TD, meaning_T, is_positive_P)
    assert float(loss) == pytest.approx(brute_force(embedding_TD, meaning_T), abs=1e-4)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8), st.integers(0, 99))
def test_texts_of_two_sides_are_ranked_across_the_sides_only(meanings, seed):
    num = len(meanings)
    embedding_TD = torch.randn(2 * num, 6, generator=torch.Generator().manual_seed(seed))
    meaning_T = torch.tensor([a for a, _ in meanings] + [b for _, b in meanings])
    score_TT = 20 * torch.nn.functional.normalize(embedding_TD) @ torch.nn.functional.normalize(embedding_TD).T
    losses = []
    for anchor in range(2 * num):
        across = range(num, 2 * num) if anchor < num else range(num)
        others = sum(math.exp(score_TT[anchor, j]) for j in across if meaning_T[j] != meaning_T[anchor])
        partners = [float(score_TT[anchor, j]) for j in across if meaning_T[j] == meaning_T[anchor]]
        losses += [math.log(math.exp(score) + others) - score for score in partners]
    loss = ranking_loss(
        embedding_TD, torch.arange(2 * num), meaning_T, meaning_T[:num] == meaning_T[num:], have_sides=True
    )
    assert float(loss) == pytest.approx(sum(losses) / len(losses) if losses else 0.0, abs=1e-4)


def test_positive_pair_without_groups_is_ranked():
    embedding_TD = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    without = ranked(embedding_TD, torch.full((6,), -1.0), torch.tensor([True, False, False]))
    assert float(without) == pytest.approx(brute_force(embedding_TD, [0, 1, 2, 0, 3, 4]), abs=1e-4)


def test_texts_of_the_anchors_meaning_do_not_repel_it():
    embedding_TD = torch.eye(4, requires_grad=True)
    loss = ranked(embedding_TD, torch.zeros(4), torch.tensor([True, True]))
    loss.backward()
    assert loss.item() == pytest.approx(0)
    assert torch.isfinite(embedding_TD.grad).all()


def test_texts_one_positive_pair_away_do_not_repel_the_anchor():
    # a-b and a-c are positive, so b is a negative of neither text of the second pair.
    _, _, text_T, group_T = columns([Pair("a", "b", label=1), Pair("a", "c", label=1)])
    loss = ranking_loss(torch.eye(4), text_T, group_T, torch.tensor([True, True]))
    without_b_and_c = math.log(math.exp(0) + math.exp(0)) - 0
    assert loss.item() < without_b_and_c + 1e-6


def test_equal_texts_are_no_partners():
    _, _, text_T, group_T = columns([Pair("a", "b", label=0), Pair("A ", "c", label=0)])
    assert ranking_loss(torch.eye(4), text_T, group_T, torch.tensor([False, False])).item() == 0


def test_batch_of_unlike_texts_has_a_loss_of_zero_that_can_be_differentiated():
    embedding_TD = torch.eye(4, requires_grad=True)
    loss = ranked(embedding_TD, torch.arange(4), torch.tensor([False, False]))
    loss.backward()
    assert loss.item() == 0
    assert not embedding_TD.grad.any()


def test_texts_of_one_group_and_equal_texts_mean_the_same():
    pairs = [Pair("a", "b", label=1, group_a="x", group_b="x"), Pair("c", " A ", label=0, group_a="y")]
    _, _, text_T, group_T = columns(pairs)
    same_TT = same_meaning(text_T, group_T)
    a, c, b, again = range(4)
    assert {(i, j) for i in range(4) for j in range(i) if same_TT[i, j]} == {(b, a), (again, a)}
    assert not same_TT[c, again]


def test_wrong_positive_pair_does_not_merge_two_groups():
    pairs = [Pair("a", "b", label=1, group_a="x", group_b="y"), Pair("c", "d", label=0, group_a="x", group_b="y")]
    _, _, text_T, group_T = columns(pairs)
    assert not same_meaning(text_T, group_T)[1, 3]


def test_graded_score_of_one_is_no_positive_pair():
    target, is_positive, _, _ = columns([Pair("a", "b", score=1.0), Pair("c", "d", score=5.0)])
    assert (target, is_positive) == ([1, 5], [0, 0])


def test_focal_loss_is_its_definition():
    embedding_a_PD, embedding_b_PD = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(0))
    label_P = torch.tensor([1.0, 0, 1, 1, 0, 0, 1, 0, 1])
    p_P = torch.sigmoid(20 * (torch.cosine_similarity(embedding_a_PD, embedding_b_PD) - 0.5))
    p_true_P = torch.where(label_P == 1, p_P, 1 - p_P)
    expected = (-((1 - p_true_P) ** 2) * p_true_P.log()).mean()
    loss = FocalLoss().compute_loss_from_embeddings([embedding_a_PD, embedding_b_PD], label_P)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_focal_loss_learns_the_boundary_of_the_classes():
    # With cosines of 0.8 and 0.6, a threshold of 0.5 would make both positive.
    first_PD = torch.tensor([[1.0, 0], [1, 0]])
    second_PD = torch.tensor([[0.8, 0.6], [0.6, 0.8]])
    loss, label_P = FocalLoss(), torch.tensor([1.0, 0])
    optimizer = torch.optim.AdamW(loss.parameters(), lr=1e-4)
    before = loss.compute_loss_from_embeddings([first_PD, second_PD], label_P).item()
    for _ in range(300):
        optimizer.zero_grad()
        loss.compute_loss_from_embeddings([first_PD, second_PD], label_P).backward()
        optimizer.step()
    assert loss.compute_loss_from_embeddings([first_PD, second_PD], label_P).item() < before / 10


def test_matryoshka_loss_is_the_mean_over_the_cuts(monkeypatch):
    embeddings = list(torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0)))
    label_PL = labels([Pair(f"a{i}", f"b{i}", label=i % 2) for i in range(6)])
    monkeypatch.setattr("training.losses.embed", lambda _model, features: [e[:, :features] for e in embeddings])
    weights = {"ranking": 1.0, "cosent": 0.3}
    whole, first = (PairLoss(None, weights)(cut, label_PL) for cut in (8, 3))
    losses = PairLoss(None, weights, matryoshka=(3,))(8, label_PL)
    assert losses.keys() == weights.keys()
    for name in weights:
        assert float(losses[name]) == pytest.approx(float(whole[name] + first[name]) / 2)
        assert abs(float(whole[name] - first[name])) > 1e-3


@pytest.mark.parametrize("kind", ["bert", "mpnet", "nomic_bert"])
def test_embeddings_do_not_depend_on_batching_by_length(make_base, monkeypatch, kind):
    monkeypatch.setattr("training.losses.TOKENS_PER_PASS", 20)
    model = load_encoder(str(make_base(kind))).model.eval()
    columns = [["cancel my order", "a", "where is my parcel now and when will it come"], ["b", "a refund", "no"]]
    shapes = []
    model.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0]["input_ids"].shape)))
    embeddings = embed(model, [model.preprocess(texts) for texts in columns])
    assert len(shapes) > 1
    assert sum(num for num, _ in shapes) == 6
    assert shapes[0][1] < shapes[-1][1]
    for embedding_PD, texts in zip(embeddings, columns, strict=True):
        alone = torch.cat([model(model.preprocess([text]))["sentence_embedding"] for text in texts])
        torch.testing.assert_close(embedding_PD, alone, atol=1e-5, rtol=1e-4)
