"""The training objective: a weighted sum of losses over one forward pass of a batch of pairs.

======================  ==============================================================================================
``ranking``             each text ranks the texts of the same meaning above all others of the batch, mined negatives
                        included (`ranking_loss`)
``cosent``              pairs with a higher label or score have higher cosines (CoSENT)
``angle``               the same for the angle in complex space (AnglE, arXiv:2309.12871)
``mse``                 the cosine equals the label, or the score within [-1, 1]
``contrastive``         positive pairs are near, negative ones at least 0.5 apart (Hadsell et al. 2006)
``online-contrastive``  the same for those pairs of a batch that overlap with the other class
``focal``               the label is probable; confident pairs count little (`FocalLoss`)
``teacher``             each text's cosines with all others of the batch follow the teacher's (`teacher_loss`)
======================  ==============================================================================================

All but ``ranking``, ``focal`` and ``teacher`` come from sentence-transformers. Only ``teacher`` learns from pairs
without a label.

Shape suffixes: P = pairs of a batch, T = its 2P texts (all first texts, then all second ones), D = dimensions.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns, merge_feature_batches
from sentence_transformers.sentence_transformer.losses import (
    AnglELoss,
    ContrastiveLoss,
    CoSENTLoss,
    CosineSimilarityLoss,
    OnlineContrastiveLoss,
)
from torch import Tensor, nn

from simile.artifacts import Pair, group_key, text_key
from training.config import Loss
from training.processes import gathered

NEED_LABELS: frozenset[Loss] = frozenset({"contrastive", "online-contrastive", "focal"})
"""Losses that cannot use graded scores."""
_SCALE = 20.0
"""Inverse temperature of the cosines, the default of sentence-transformers' losses."""
TOKENS_PER_PASS = 1024
"""Tokens that a CPU encodes together. Fewer mean less padding, but each pass sums the gradients of all words."""
_NO_GROUP = -1.0
_OWN = "loss.safetensors"


class FocalLoss(nn.Module):
    """The focal loss (Lin et al. 2017, arXiv:1708.02002): ``-(1 - p)^gamma log p``, p the true label's probability.

    A pair is positive with probability ``sigmoid(tau * (cosine - b))``, where tau and b are learned with the weights.
    """

    _PACE = 100.0
    """Factor by which tau and b move faster: Adam moves all weights alike, and these two must move farther."""

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self._gamma = gamma
        self._log_tau = nn.Parameter(torch.tensor(math.log(_SCALE) / self._PACE))
        self._b = nn.Parameter(torch.tensor(0.5 / self._PACE))

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], label_P: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        cosine_P = torch.cosine_similarity(embeddings[0].float(), embeddings[1].float())
        tau, b = (self._PACE * self._log_tau).exp(), self._PACE * self._b
        margin_P = tau * (cosine_P - b) * (2 * label_P - 1)
        log_p_P = nn.functional.logsigmoid(margin_P)
        return -(torch.sigmoid(-margin_P) ** self._gamma * log_p_P).mean()


_LOSSES: Mapping[Loss, Callable[[SentenceTransformer], nn.Module]] = {
    "cosent": lambda model: CoSENTLoss(model, scale=_SCALE),
    "angle": lambda model: AnglELoss(model, scale=_SCALE),
    "mse": CosineSimilarityLoss,
    "contrastive": ContrastiveLoss,
    "online-contrastive": OnlineContrastiveLoss,
    "focal": lambda model: FocalLoss(),
}


class PairLoss(nn.Module):
    """The weighted losses of a batch of pairs, with each text encoded once; a pair's label is its `loss_label`.

    Each loss is the mean over all dimensions and each of the ``matryoshka`` numbers of leading dimensions.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        weights: Mapping[Loss, float],
        matryoshka: Sequence[int] = (),
        teacher_SND: Tensor | None = None,
        *,
        have_sides: bool = False,
    ) -> None:
        """Make the losses, and the weights that they learn.

        ``teacher_SND`` holds the teacher's embeddings of each text, by the texts' numbers: one, or one as a first and
        one as a second text. With ``have_sides``, first texts are compared with second texts only.
        """
        super().__init__()
        self.model, self._weights, self._cuts = model, dict(weights), (None, *matryoshka)
        self._losses = nn.ModuleDict({name: _LOSSES[name](model) for name in weights if name in _LOSSES})
        self._teacher_SND, self._have_sides = teacher_SND, have_sides

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> dict[str, Tensor]:
        """Return each loss times its weight, a scalar; the trainer sums them and logs each."""
        whole = gathered(embed(self.model, sentence_features), len(labels))
        *by_pair, is_labelled_P, is_hard_P = labels.unbind(1)
        text_T = torch.cat(by_pair[2:4])
        labelled, hard = is_labelled_P.nonzero().squeeze(1), (is_labelled_P * is_hard_P).nonzero().squeeze(1)
        # Easy pairs would teach the other losses word overlap; ranking learns from all positives.
        rows = hard if "ranking" in self._weights else labelled
        # The numbers of texts need float64, the losses do not.
        hard_target_P = by_pair[0][rows].float()
        _, is_positive_P, text_a_P, text_b_P, group_a_P, group_b_P = (value_P[labelled] for value_P in by_pair)
        totals: dict[str, Tensor] = dict.fromkeys(self._weights, whole[0].new_zeros(()))
        for cut in self._cuts:
            embeddings = [embedding_PD[:, :cut] for embedding_PD in whole]
            for name, weight in self._weights.items():
                if name == "teacher":
                    assert self._teacher_SND is not None
                    first, second = (number_P.long().cpu() for number_P in by_pair[2:4])
                    teacher_TD = torch.cat([self._teacher_SND[0][first], self._teacher_SND[-1][second]])
                    have_sides = self._have_sides or len(self._teacher_SND) > 1
                    loss = teacher_loss(torch.cat(embeddings), teacher_TD, text_T, have_sides=have_sides)
                elif name == "ranking":
                    ranked_TD = torch.cat([embedding_PD[labelled] for embedding_PD in embeddings])
                    texts, groups = torch.cat([text_a_P, text_b_P]), torch.cat([group_a_P, group_b_P])
                    loss = ranking_loss(ranked_TD, texts, groups, is_positive_P == 1, have_sides=self._have_sides)
                elif len(hard_target_P):
                    compute_loss: Any = self._losses[name].compute_loss_from_embeddings
                    loss = compute_loss([embedding_PD[rows] for embedding_PD in embeddings], hard_target_P)
                else:
                    continue
                totals[name] = totals[name] + weight / len(self._cuts) * loss.float()
        return totals

    def save_own(self, checkpoint: Path) -> None:
        """Write the weights that the losses learn into a checkpoint: the trainer writes only the encoder's."""
        if own := self._own():
            save_file({name: value.detach().contiguous() for name, value in own.items()}, checkpoint / _OWN)

    @torch.no_grad()
    def load_own(self, checkpoint: Path) -> None:
        """Load the weights that `save_own` has written."""
        if own := self._own():
            for name, value in load_file(checkpoint / _OWN).items():
                own[name].copy_(value)

    def _own(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.named_parameters() if not name.startswith("model.")}


def embed(model: SentenceTransformer, columns: Iterable[dict[str, Tensor]]) -> list[Tensor]:
    """Return the embeddings of each column of texts, shape ``(P, D)``.

    On a CPU, texts of similar length are encoded together, a few at a time: padded to the longest of their column, a
    quarter of all tokens or more would be padding.
    """
    columns = list(columns)
    is_on_cpu = columns[0]["attention_mask"].device.type == "cpu"
    merged = merge_feature_batches(columns) if is_on_cpu else None
    if merged is None:
        return list(embed_columns(model, columns))
    mask, parts = merged["attention_mask"], []
    length, by_length = mask.sum(1).sort(stable=True)
    _, num_texts = ((length.cumsum(0) - 1) // TOKENS_PER_PASS).unique_consecutive(return_counts=True)
    for rows in by_length.split(num_texts.tolist()):
        width = int(mask[rows].any(0).nonzero().max()) + 1
        part = {
            name: value[rows, :width] if isinstance(value, Tensor) and value.ndim == 2 else value
            for name, value in merged.items()
        }
        parts.append(model(part)["sentence_embedding"])
    embedding_TD = torch.cat(parts)[by_length.argsort()]
    return [*embedding_TD.chunk(len(columns))]


def ranking_loss(
    embedding_TD: Tensor, text_T: Tensor, group_T: Tensor, is_positive_P: Tensor, *, have_sides: bool = False
) -> Tensor:
    """Return the multiple negatives ranking loss over all texts of the batch (Henderson et al. 2017, arXiv:1705.00652).

    The partners of a text are the other text of its positive pair and all other texts of its group, as in supervised
    contrastive learning (Khosla et al. 2020, arXiv:2004.11362). They compete with all other texts, those of negative
    pairs included, except texts that mean the same as the anchor or share a positive pair with such a text. The loss is
    0 for a batch in which no two texts mean the same.

    ``text_T`` has one number per text, the same for equal texts; ``group_T`` that of each text's group, -1 for none.
    With ``have_sides``, first texts have second texts as partners and competitors only, and the other way round.
    """
    num_texts, num_pairs = len(text_T), len(is_positive_P)
    first = torch.nonzero(is_positive_P).squeeze(1)
    paired_TT = torch.zeros(num_texts, num_texts, dtype=torch.bool, device=text_T.device)
    paired_TT[first, first + num_pairs] = True
    paired_TT[first + num_pairs, first] = True
    same_TT = same_meaning(text_T, group_T)
    # There is nothing to learn between equal texts.
    is_partner_TT = (paired_TT | same_TT) & (text_T[:, None] != text_T[None, :])
    is_compared_TT = _compared(num_texts, have_sides=have_sides, device=text_T.device)
    is_partner_TT &= is_compared_TT
    if not is_partner_TT.any():
        return embedding_TD.sum() * 0
    near_TT = same_TT.float()
    is_masked_TT = same_TT | (near_TT @ paired_TT.float() @ near_TT > 0) | ~is_compared_TT
    unit_TD = nn.functional.normalize(embedding_TD.float(), dim=1)
    score_TT = _SCALE * unit_TD @ unit_TD.T
    # Not infinity: the gradient would be NaN where every text is masked.
    others_T1 = score_TT.masked_fill(is_masked_TT, -1e4).logsumexp(1, keepdim=True)
    return (torch.logaddexp(score_TT, others_T1) - score_TT)[is_partner_TT].mean()


def teacher_loss(embedding_TD: Tensor, teacher_TD: Tensor, text_T: Tensor, *, have_sides: bool = False) -> Tensor:
    """Return how far the student's similarities are from the teacher's, as a Kullback-Leibler divergence.

    Each text has a distribution over the other texts of the batch: the softmax of its scaled cosines. Distilling these
    needs no common space of embeddings (SEED: Fang et al. 2021, arXiv:2101.04731). ``embedding_TD`` has rows of any
    length, ``teacher_TD`` unit rows with dimensions of its own. ``text_T`` has one number per text, the same for equal
    texts, between which there is nothing to learn. With ``have_sides``, the distribution of a first text is over the
    second texts, and the other way round.
    """
    is_compared_TT = _compared(len(text_T), have_sides=have_sides, device=text_T.device)
    is_masked_TT = (text_T[:, None] == text_T[None, :]) | ~is_compared_TT
    unit_TD = nn.functional.normalize(embedding_TD.float(), dim=1)
    log_p, log_p_of_teacher = (
        (_SCALE * x_TD @ x_TD.T).masked_fill(is_masked_TT, -1e4).log_softmax(1)
        for x_TD in (unit_TD, teacher_TD.to(unit_TD.device))
    )
    return nn.functional.kl_div(log_p, log_p_of_teacher, reduction="batchmean", log_target=True)


def _compared(num_texts: int, *, have_sides: bool, device: torch.device) -> Tensor:
    """Return which of a batch's texts are compared with each other: all, or only those of different sides."""
    if not have_sides:
        return torch.ones(num_texts, num_texts, dtype=torch.bool, device=device)
    is_second_T = torch.arange(num_texts, device=device) >= num_texts // 2
    return is_second_T[:, None] != is_second_T[None, :]


def same_meaning(text_T: Tensor, group_T: Tensor) -> Tensor:
    """Return which texts are known to mean the same: equal texts, and texts of one group (-1: no group)."""
    is_same_group_TT = (group_T[:, None] == group_T[None, :]) & (group_T != _NO_GROUP)[:, None]
    return (text_T[:, None] == text_T[None, :]) | is_same_group_TT


def loss_label(pair: Pair, texts: Mapping[str, int] | None = None) -> list[float]:
    """Return what the losses need of a pair.

    The target, whether the pair is positive, a number for each of its texts and for each of its groups, whether it is
    labelled, and whether it is hard: pairs of the tier ``group`` are not. The numbers of texts are those in ``texts``
    by `text_key` or, like those of groups, parts of hashes: equal numbers mean equal keys, because two that differ
    share one in 2**53 times.
    """
    keys = (text_key(pair.text_a), text_key(pair.text_b))
    # The files of a curriculum may spell a group differently.
    groups = (_NO_GROUP if group is None else _number(group_key(group)) for group in (pair.group_a, pair.group_b))
    return [
        float(pair.target or 0),
        float(pair.label == 1),
        *(float(texts[key]) if texts else _number(key) for key in keys),
        *groups,
        float(pair.target is not None),
        float(pair.tier != "group"),
    ]


def _number(key: str) -> float:
    """Return a whole number below 2**53, which float64 holds exactly."""
    return float(int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest()) >> 3)
