"""What training minimises: a weighted sum of losses over one forward pass of a batch of pairs.

Shape suffixes: P = pairs of a batch, T = its 2P texts, D = dimensions, R = anchors.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns
from sentence_transformers.sentence_transformer.losses import CoSENTLoss
from torch import Tensor, nn

from simile.artifacts import Pair
from training.config import Loss

_SCALE = 20.0
"""Inverse temperature of the cosines, as sentence-transformers has it in both losses."""


class PairLoss(nn.Module):
    """The losses' sum for a batch of pairs, each text encoded once.

    Each pair's label is three numbers: its target, and the meaning of either text (`meanings_of`).
    """

    def __init__(self, model: SentenceTransformer, weights: Mapping[Loss, float]) -> None:
        super().__init__()
        self.model = model
        self._weights = dict(weights)
        self._cosent = CoSENTLoss(model, scale=_SCALE)

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        embeddings = embed_columns(self.model, sentence_features)
        target_P, meaning_a_P, meaning_b_P = labels.unbind(1)
        total = torch.zeros((), device=target_P.device)
        if weight := self._weights.get("cosent"):
            total = total + weight * self._cosent.compute_loss_from_embeddings(embeddings, target_P)
        if weight := self._weights.get("ranking"):
            embedding_TD, meaning_T = torch.cat(embeddings), torch.cat([meaning_a_P, meaning_b_P])
            total = total + weight * ranking_loss(embedding_TD, meaning_T, target_P == 1)
        return total

    def get_config_dict(self) -> dict[str, Any]:
        """Return what the trainer writes down of it."""
        return {"weights": self._weights}


def ranking_loss(embedding_TD: Tensor, meaning_T: Tensor, is_positive_P: Tensor) -> Tensor:
    """Return how far each text of a positive pair is from ranking its partner above the batch's other texts.

    The multiple negatives ranking loss (Henderson et al. 2017, arXiv:1705.00652) in both directions, with the texts of
    the negative pairs among the candidates, and without those that mean the same as the anchor. 0 for a batch without
    positive pairs.

    Args:
        embedding_TD: first the first texts of all pairs, then the second ones.
        meaning_T: texts of one number mean the same.
        is_positive_P: which pairs are positive.
    """
    num_pairs = len(is_positive_P)
    first_R = torch.nonzero(is_positive_P).squeeze(1)
    if not len(first_R):
        return embedding_TD.sum() * 0
    anchor_R = torch.cat([first_R, first_R + num_pairs])
    partner_R = torch.cat([first_R + num_pairs, first_R])
    unit_TD = nn.functional.normalize(embedding_TD.float(), dim=1)
    score_RT = _SCALE * unit_TD[anchor_R] @ unit_TD.T
    is_masked_RT = meaning_T[anchor_R, None] == meaning_T[None, :]
    is_masked_RT[torch.arange(len(anchor_R)), partner_R] = False
    return nn.functional.cross_entropy(score_RT.masked_fill(is_masked_RT, -torch.inf), partner_R)


def meanings_of(pairs: Iterable[Pair]) -> list[tuple[int, int]]:
    """Return a number for each pair's texts, the same for texts that are known to mean the same.

    Known by their group; where there is none, by the positive pairs that lead from one to the other.
    """
    codes: dict[tuple[str, str], int] = {}
    nodes = []
    edges = []
    for pair in pairs:
        a, b = (
            codes.setdefault(("text", text) if group is None else ("group", group), len(codes))
            for text, group in ((pair.text_a, pair.group_a), (pair.text_b, pair.group_b))
        )
        nodes.append((a, b))
        if pair.label == 1:
            edges.append((a, b))
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    graph = coo_matrix(([True] * len(edges), (rows, columns)), shape=(len(codes), len(codes)))
    _, meaning_of = connected_components(graph, directed=False)
    return [(int(meaning_of[a]), int(meaning_of[b])) for a, b in nodes]
