"""A dev set held out of labelled pairs that come without one.

Shape suffixes: P = pairs, C = components, K = classes.
"""

import json
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from simile.artifacts import MIN_DEV_PAIRS, Pair, PairSet
from simile.artifacts.texts import group_key, text_key
from simile.files import sha256_bytes

_NAME = "dev-held-out"
_MOST = 1.5
"""How far a class may exceed its share: components are held out whole, and few of them fit exactly."""


def hold_out(pairs: PairSet, share: float, seed: int) -> tuple[PairSet, PairSet] | None:
    """Return the pairs to train on, and a dev set of about this share of each class, with no text or group in both.

    Connected components of texts are held out whole, in random order: two texts are connected if they are a pair, and
    texts of one group, where it is stated, are as well. Graded pairs are of one class. The hash of either part is made
    of that of ``pairs`` and of the part's rows.

    Returns:
        None where this gives no dev set of at least `MIN_DEV_PAIRS` pairs, or where either part would have pairs of one
        label or score only, such as where most pairs are in one component.
    """
    if len(pairs.rows) < MIN_DEV_PAIRS:
        return None
    component_P = _components(pairs)
    class_P = (pairs.target_P == 1) & (not pairs.is_graded)
    counts_CK = np.zeros((component_P.max() + 1, 2), dtype=np.int64)
    np.add.at(counts_CK, (component_P, class_P.astype(np.int64)), 1)
    is_held_P = _held_components(counts_CK, share, seed)[component_P]
    if is_held_P.sum() < MIN_DEV_PAIRS:
        return None
    if any(len(np.unique(pairs.target_P[part_P])) < 2 for part_P in (is_held_P, ~is_held_P)):
        return None
    return _part(pairs, pairs.name, ~is_held_P), _part(pairs, _NAME, is_held_P)


def _components(pairs: PairSet) -> NDArray[np.int32]:
    """Return the number of each pair's component, from 0, shape ``(P,)``."""
    number_of_node: defaultdict[tuple[str, str], int] = defaultdict(lambda: len(number_of_node))
    edges = [(number_of_node[a], number_of_node[b]) for row in pairs.rows for a, b in _edges(row)]
    first, second = np.array(edges).T
    size = len(number_of_node)
    graph = coo_array((np.ones(len(edges), dtype=bool), (first, second)), shape=(size, size))
    component_of_node = connected_components(graph, directed=False)[1]
    texts = [number_of_node["text", text_key(row.text_a)] for row in pairs.rows]
    return np.asarray(component_of_node[texts], dtype=np.int32)


def _edges(row: Pair) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Return what the pair connects: its texts, and each of them with its group."""
    text_a, text_b = ("text", text_key(row.text_a)), ("text", text_key(row.text_b))
    groups = ((text_a, row.group_a), (text_b, row.group_b))
    return [(text_a, text_b), *((text, ("group", group_key(group))) for text, group in groups if group is not None)]


def _held_components(counts_CK: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Return which components are held out, given the pairs of each class in them."""
    goal_K = np.ceil(share * counts_CK.sum(axis=0))
    is_held_C, held_K = np.zeros(len(counts_CK), dtype=bool), np.zeros_like(goal_K)
    for component in np.random.default_rng(seed).permutation(len(counts_CK)):
        count_K = counts_CK[component]
        is_needed = ((count_K > 0) & (held_K < goal_K)).any()
        if is_needed and (held_K + count_K <= _MOST * goal_K).all():
            is_held_C[component] = True
            held_K += count_K
    return is_held_C


def _part(pairs: PairSet, name: str, is_in_P: NDArray[np.bool_]) -> PairSet:
    rows = np.flatnonzero(is_in_P).tolist()
    sha256 = sha256_bytes(json.dumps([pairs.sha256, rows]).encode())
    return PairSet(name, tuple(pairs.rows[row] for row in rows), sha256)
