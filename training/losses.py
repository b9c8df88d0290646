"""What training minimises: a weighted sum of losses over one forward pass of a batch of pairs.

Shape suffixes: P = pairs of a batch, T = its 2P texts (first all first texts, then all second ones), D = dimensions,
R = anchors.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns
from sentence_transformers.sentence_transformer.losses import CoSENTLoss
from torch import Tensor, nn

from simile.artifacts import Pair, text_key
from training.config import Loss

_SCALE = 20.0
"""Inverse temperature of the cosines, as sentence-transformers has it in both losses."""
_NO_GROUP = -1.0


class PairLoss(nn.Module):
    """The losses' sum for a batch of pairs, each text encoded once; a pair's label is a row of `loss_labels`."""

    def __init__(self, model: SentenceTransformer, weights: Mapping[Loss, float]) -> None:
        super().__init__()
        self.model = model
        self._weights = dict(weights)
        self._cosent = CoSENTLoss(model, scale=_SCALE)

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        embeddings = embed_columns(self.model, sentence_features)
        target_P, is_positive_P, text_a_P, text_b_P, group_a_P, group_b_P = labels.unbind(1)
        total = torch.zeros((), device=target_P.device)
        if weight := self._weights.get("cosent"):
            total = total + weight * self._cosent.compute_loss_from_embeddings(embeddings, target_P)
        if weight := self._weights.get("ranking"):
            same_TT = same_meaning(torch.cat([text_a_P, text_b_P]), torch.cat([group_a_P, group_b_P]))
            total = total + weight * ranking_loss(torch.cat(embeddings), same_TT, is_positive_P == 1)
        return total

    def get_config_dict(self) -> dict[str, Any]:
        """Return what the trainer writes down of it."""
        return {"weights": self._weights}


def ranking_loss(embedding_TD: Tensor, same_TT: Tensor, is_positive_P: Tensor) -> Tensor:
    """Return how far each text of a positive pair is from ranking its partner above the batch's other texts.

    The multiple negatives ranking loss (Henderson et al. 2017, arXiv:1705.00652) in both directions, with the texts of
    the negative pairs among the candidates. Not among them: what means the same as the anchor, and what is one positive
    pair of the batch away from it. 0 for a batch without positive pairs.
    """
    num_pairs = len(is_positive_P)
    first_R = torch.nonzero(is_positive_P).squeeze(1)
    if not len(first_R):
        return embedding_TD.sum() * 0
    anchor_R = torch.cat([first_R, first_R + num_pairs])
    partner_R = torch.cat([first_R + num_pairs, first_R])
    unit_TD = nn.functional.normalize(embedding_TD.float(), dim=1)
    score_RT = _SCALE * unit_TD[anchor_R] @ unit_TD.T
    paired_TT = torch.zeros(same_TT.shape, device=same_TT.device)
    paired_TT[anchor_R, partner_R] = 1
    near_TT = same_TT.float()
    is_masked_RT = (same_TT | (near_TT @ paired_TT @ near_TT > 0))[anchor_R]
    is_masked_RT[torch.arange(len(anchor_R)), partner_R] = False
    return nn.functional.cross_entropy(score_RT.masked_fill(is_masked_RT, -torch.inf), partner_R)


def same_meaning(text_T: Tensor, group_T: Tensor) -> Tensor:
    """Return which texts are known to mean the same: equal ones, and those of one group (-1: no group)."""
    is_same_group_TT = (group_T[:, None] == group_T[None, :]) & (group_T != _NO_GROUP)[:, None]
    return (text_T[:, None] == text_T[None, :]) | is_same_group_TT


def loss_labels(pairs: Sequence[Pair]) -> list[list[float]]:
    """Return each pair's target, whether it is positive, and the numbers of its two texts and of their two groups."""
    texts: dict[str, int] = {}
    groups: dict[str, int] = {}

    def number_of(group: str | None) -> float:
        return _NO_GROUP if group is None else float(groups.setdefault(group, len(groups)))

    return [
        [
            float(pair.target or 0),
            float(pair.label == 1),
            *(float(texts.setdefault(text_key(text), len(texts))) for text in (pair.text_a, pair.text_b)),
            *(number_of(group) for group in (pair.group_a, pair.group_b)),
        ]
        for pair in pairs
    ]
