"""Groups that look like one, and groups that look like two, by a bundle's embeddings of their texts.

Both are judged by one figure, the affinity of two sets of texts: the mean cosine between the sets, divided by the mean
of the mean cosines within each. Random halves of one group have an affinity near 1, unrelated groups near 0.

Shape suffixes: N = texts, D = dimensions, G = groups.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from labelling.audit import Suspect, embed
from simile.artifacts import Pair, PairSet
from simile.artifacts.texts import group_key, text_key
from simile.scoring import Scorer

MIN_TEXTS = 3
"""Fewest texts of a group, and of each part of a group that looks like two."""
_MIN_SHARE = 0.1
"""Smallest share of a group's texts that is a part: a single outlier is no second group."""
NUM_SHOWN = 3
"""Texts per group or part that are shown: those nearest to its centre."""


@dataclass(frozen=True, slots=True)
class GroupFinding:
    """Two groups that look like one, or the two parts of a group that looks like two."""

    group_a: str
    group_b: str
    """The same name as ``group_a`` for the two parts of one group."""
    affinity: float
    """Affinity of the two: near 1, nothing tells them apart."""
    texts_a: tuple[str, ...]
    texts_b: tuple[str, ...]
    num_a: int
    num_b: int


@dataclass(frozen=True, slots=True)
class GroupAudit:
    """The most striking groups, the most suspicious ones first."""

    alike: tuple[GroupFinding, ...]
    """Two groups each that look like one."""
    divided: tuple[GroupFinding, ...]
    """One group each that looks like two."""


def audit_groups(texts: Iterable[tuple[str, str]], scorer: Scorer, *, limit: int = 20, seed: int = 0) -> GroupAudit:
    """Return up to ``limit`` findings of either sort among pairs of a text and the name of its group.

    Groups of fewer than `MIN_TEXTS` different texts are left out.
    """
    members: dict[str, dict[str, str]] = {}
    names: dict[str, str] = {}
    for text, group in texts:
        names.setdefault(group_key(group), group)
        members.setdefault(group_key(group), {}).setdefault(text_key(text), text)
    groups = [_Texts(names[key], tuple(own.values())) for key, own in members.items() if len(own) >= MIN_TEXTS]
    if not groups:
        return GroupAudit((), ())
    embedding_ND = embed([text for group in groups for text in group.texts], scorer)
    ends = np.cumsum([len(group.texts) for group in groups])
    parts = np.split(embedding_ND, ends[:-1])
    return GroupAudit(_alike(groups, parts, limit), _divided(groups, parts, limit, seed=seed))


def texts_of(pairs: PairSet) -> list[tuple[str, str]]:
    """Return each text of pairs that have groups, with its group."""
    ends = ((row.text_a, row.group_a, row.text_b, row.group_b) for row in pairs.rows)
    return [(text, str(group)) for a, group_a, b, group_b in ends for text, group in ((a, group_a), (b, group_b))]


def questions(findings: GroupAudit) -> list[Suspect]:
    """Return the findings as pairs for people to answer: their central texts, with the label that the groups imply.

    The suspicion only orders them; it is no probability.
    """
    alike = [
        Suspect(pair, min(1.0, max(0.0, one.affinity)), "The texts of these two groups are as near as those of one.")
        for one in findings.alike
        for pair in _pairs(one, 0)
    ]
    divided = [
        Suspect(pair, min(1.0, max(0.0, 1 - one.affinity)), "The texts of this group fall into two distinct parts.")
        for one in findings.divided
        for pair in _pairs(one, 1)
    ]
    return sorted([*alike, *divided], key=lambda one: -one.suspicion)


def affinity(a_ND: NDArray[np.float64], b_ND: NDArray[np.float64]) -> float:
    """Return the affinity of two sets of at least two embeddings of length 1 each; unitless, at most about 1."""
    size_G = np.array([len(a_ND), len(b_ND)])
    return float(_affinities(np.stack([a_ND.sum(axis=0), b_ND.sum(axis=0)]), size_G)[0, 1])


@dataclass(frozen=True, slots=True)
class _Texts:
    name: str
    texts: tuple[str, ...]


def _affinities(sum_GD: NDArray[np.float64], size_G: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the affinity of each two sets, shape ``(G, G)``, from the sums of their embeddings."""
    product_GG = sum_GD @ sum_GD.T
    # A text's cosine with itself, which is 1, says nothing of the others.
    within_G = (np.diag(product_GG) - size_G) / (size_G * (size_G - 1))
    between_GG = product_GG / np.outer(size_G, size_G)
    return np.asarray(between_GG / np.maximum((within_G[:, None] + within_G) / 2, 1e-6))


def _alike(groups: list[_Texts], parts: list[NDArray[np.float64]], limit: int) -> tuple[GroupFinding, ...]:
    sum_GD = np.stack([part_ND.sum(axis=0) for part_ND in parts])
    affinity_GG = _affinities(sum_GD, np.array([len(part_ND) for part_ND in parts]))
    a, b = np.triu_indices(len(groups), 1)
    order = np.argsort(-affinity_GG[a, b], kind="stable")[:limit]
    return tuple(
        _finding(groups[i].name, groups[j].name, (groups[i].texts, parts[i]), (groups[j].texts, parts[j]))
        for i, j in zip(a[order], b[order], strict=True)
    )


def _divided(
    groups: list[_Texts], parts: list[NDArray[np.float64]], limit: int, *, seed: int
) -> tuple[GroupFinding, ...]:
    findings = []
    for group, part_ND in zip(groups, parts, strict=True):
        smallest = max(MIN_TEXTS, round(_MIN_SHARE * len(group.texts)))
        if len(group.texts) < 2 * smallest:
            continue
        is_second_N = KMeans(2, n_init=4, random_state=seed).fit_predict(part_ND) == 1
        if min(is_second_N.sum(), (~is_second_N).sum()) < smallest:
            continue
        first, second = (
            (tuple(np.array(group.texts, dtype=object)[mask]), part_ND[mask]) for mask in (~is_second_N, is_second_N)
        )
        findings.append(_finding(group.name, group.name, first, second))
    return tuple(sorted(findings, key=lambda one: one.affinity)[:limit])


def _finding(
    name_a: str,
    name_b: str,
    a: tuple[tuple[str, ...], NDArray[np.float64]],
    b: tuple[tuple[str, ...], NDArray[np.float64]],
) -> GroupFinding:
    return GroupFinding(name_a, name_b, affinity(a[1], b[1]), _central(*a), _central(*b), len(a[0]), len(b[0]))


def _central(texts: tuple[str, ...], embedding_ND: NDArray[np.float64]) -> tuple[str, ...]:
    nearest = np.argsort(-(embedding_ND @ embedding_ND.sum(axis=0)), kind="stable")[:NUM_SHOWN]
    return tuple(texts[index] for index in nearest)


def _pairs(finding: GroupFinding, label: int) -> list[Pair]:
    """Return one pair per shown text of the two."""
    return [
        Pair(text_a, text_b, label=label, group_a=finding.group_a, group_b=finding.group_b)
        for text_a, text_b in zip(finding.texts_a, finding.texts_b, strict=True)
        # The same text may be in both groups.
        if text_key(text_a) != text_key(text_b)
    ]
