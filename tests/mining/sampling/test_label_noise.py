import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mining.sampling import label_noise
from mining.sampling.features import Candidates
from mining.sampling.label_noise import MARGIN, best_positive, is_false_negative


def embeddings(num, seed=0, dimension=8):
    vector_ND = np.random.default_rng(seed).normal(size=(num, dimension)).astype(np.float32)
    return vector_ND / np.linalg.norm(vector_ND, axis=1, keepdims=True)


def brute_force(embedding_ND, means_same):
    """Return each document's highest cosine to another one that means the same."""
    num = len(embedding_ND)
    return [
        max(
            (float(embedding_ND[i] @ embedding_ND[j]) for j in range(num) if j != i and means_same(i, j)),
            default=np.nan,
        )
        for i in range(num)
    ]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 9))
def test_best_positive_of_a_group_is_that_of_brute_force(groups, seed):
    embedding_ND = embeddings(len(groups), seed)
    expected = brute_force(embedding_ND, lambda i, j: groups[i] == groups[j])
    np.testing.assert_allclose(best_positive(embedding_ND, np.array(groups)), expected, atol=1e-6)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(10, 19)), max_size=20), st.integers(0, 9))
def test_best_positive_of_the_links_is_that_of_brute_force(links, seed):
    embedding_ND = embeddings(20, seed)
    linked = {*links, *((b, a) for a, b in links)}
    expected = brute_force(embedding_ND, lambda i, j: (i, j) in linked)
    # All documents are of one group, but only links count.
    link_L2 = np.array(links, dtype=np.int64).reshape(-1, 2)
    best_N = best_positive(embedding_ND, np.zeros(20, dtype=np.int64), link_L2)
    np.testing.assert_allclose(best_N, expected, atol=1e-6)


def test_best_positive_of_a_group_larger_than_a_block_is_that_of_numpy():
    num = 2500
    embedding_ND = embeddings(num, dimension=3)
    group_N = np.random.default_rng(1).permutation(num) % 2
    cosine_NN = embedding_ND @ embedding_ND.T
    np.fill_diagonal(cosine_NN, -1)
    cosine_NN[group_N[:, None] != group_N[None, :]] = -1
    assert np.bincount(group_N).min() > label_noise._BLOCK
    np.testing.assert_allclose(best_positive(embedding_ND, group_N), cosine_NN.max(axis=1), atol=1e-6)


def test_a_document_alone_in_its_group_has_no_best_positive():
    embedding_ND = np.array([[1, 0], [0.6, 0.8], [0, 1]], dtype=np.float32)
    assert best_positive(embedding_ND, np.array([7, 3, 7])) == pytest.approx([0.0, np.nan, 0.0], nan_ok=True)
    assert np.isnan(best_positive(embedding_ND, np.array([0, 1, 2]))).all()
    assert np.isnan(best_positive(embedding_ND, np.zeros(3, dtype=int), np.empty((0, 2), dtype=int))).all()


def test_equal_embeddings_are_different_documents():
    embedding_ND = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    assert best_positive(embedding_ND, np.array([0, 0, 0])).tolist() == [1, 1, 0]


def candidates_of(baseline, is_positive, a, b) -> Candidates:
    nothing = np.zeros(len(baseline))
    return Candidates(
        np.array(a), np.array(b), nothing, nothing, np.array(baseline), np.array(is_positive), nothing > 0
    )


def test_negatives_above_the_best_positive_of_one_of_their_texts_are_false_negatives():
    best_N = np.array([0.5, 0.8, np.nan, np.nan])
    cases = [
        # (baseline, is positive, texts, is false negative)
        (0.56, False, (0, 1), True),
        (0.54, False, (0, 1), False),
        (0.56, False, (1, 0), True),
        (0.84, False, (1, 2), False),
        (0.86, False, (1, 2), True),
        (0.86, False, (2, 1), True),
        (0.99, True, (0, 1), False),
        (0.99, False, (2, 3), False),
        (np.nan, False, (0, 1), False),
    ]
    baseline, is_positive, texts, expected = zip(*cases, strict=True)
    is_false_C = is_false_negative(candidates_of(baseline, is_positive, *zip(*texts, strict=True)), best_N)
    assert MARGIN == 0.05
    assert is_false_C.tolist() == list(expected)
