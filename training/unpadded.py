"""A transformer for ONNX Runtime that computes nothing for padding ("padding-free", "sequence packing").

The tokens of a batch are concatenated as if they were one text; only attention arranges them by text, padded to the
longest. Padding therefore costs time only there, and a text's embedding does not depend on the other texts of its
batch. See Kosec et al. 2021, arXiv:2107.02027.

Shape suffixes: B = texts of a batch, T = tokens of the longest text, N = tokens of all texts, H = heads,
D = dimensions.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BertModel,
    Gemma3TextModel,
    ModernBertModel,
    MPNetModel,
    NomicBertModel,
    PreTrainedModel,
    XLMRobertaModel,
)
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.nomic_bert.modeling_nomic_bert import apply_rotary_pos_emb

from simile.errors import SimileError

_FAR_BELOW = -1e4
"""Added to the attention scores of padding, as ONNX Runtime's operator does."""


class Unpadded(nn.Module):
    """A copy of a transformer (`can_unpad`) that takes a padded batch and computes its tokens only."""

    def __init__(self, transformer: PreTrainedModel) -> None:
        super().__init__()
        self._layout, self._transformer, self._first_position = _Layout(), copy.deepcopy(transformer), 0
        match self._transformer:
            case BertModel() | XLMRobertaModel():
                # XLM-R's first text position is 2, the position after that of padding.
                self._first_position = getattr(self._transformer.embeddings, "padding_idx", -1) + 1
                for layer in self._transformer.encoder.layer:
                    own = layer.attention.self
                    layer.attention.self = self._attention(own.query, own.key, own.value)
            case MPNetModel():
                encoder = self._transformer.encoder
                self._first_position = self._transformer.embeddings.padding_idx + 1
                for layer in encoder.layer:
                    own = layer.attention.attn
                    layer.attention.attn = self._attention(own.q, own.k, own.v, own.o)
                compute_bias = encoder.compute_position_bias
                # The bias is the same for all texts of a batch, so one row is enough.
                encoder.compute_position_bias = lambda _: compute_bias(self._layout.row_BT[:1])
            case NomicBertModel():
                for layer in self._transformer.layers:
                    own = layer.self_attn
                    layer.self_attn = self._attention(own.q_proj, own.k_proj, own.v_proj, own.o_proj)
            case ModernBertModel():
                for layer in self._transformer.layers:
                    is_local = layer.attention_type == "sliding_attention"
                    window = self._transformer.config.sliding_window if is_local else None
                    query, key, value = _split(layer.attn.Wqkv)
                    layer.attn = self._attention(query, key, value, layer.attn.Wo, window=window)
            case other:
                raise TypeError(f"got {type(other).__name__}, need an architecture that can_unpad() accepts")

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        """Return the hidden states ``[B, T, D]``; those at padding are copies of some token's."""
        place_N = self._layout.set(attention_mask)
        ids_1N = input_ids.reshape(-1)[place_N].unsqueeze(0)
        position_1N = (place_N % attention_mask.shape[1] + self._first_position).unsqueeze(0)
        others: dict[str, Any] = {}
        if isinstance(self._transformer, ModernBertModel):
            others["attention_mask"] = dict.fromkeys(self._transformer.config.layer_types)
        elif not isinstance(self._transformer, MPNetModel):
            others["token_type_ids"] = torch.zeros_like(ids_1N)
        hidden_1ND = self._transformer(input_ids=ids_1N, position_ids=position_1N, **others).last_hidden_state
        return BaseModelOutput(last_hidden_state=hidden_1ND.squeeze(0)[self._layout.row_BT])

    def _attention(
        self,
        query: nn.Linear,
        key: nn.Linear,
        value: nn.Linear,
        out: nn.Module | None = None,
        window: int | None = None,
    ) -> nn.Module:
        num_heads = self._transformer.config.num_attention_heads
        return _Attention(self._layout, query, key, value, out or nn.Identity(), num_heads=num_heads, window=window)


def can_unpad(transformer: nn.Module) -> bool:
    """Return whether the transformer's architecture can run without padding."""
    return isinstance(transformer, BertModel | ModernBertModel | MPNetModel | NomicBertModel | XLMRobertaModel)


def attention_masks(transformer: nn.Module, mask_BT: Tensor) -> Tensor | dict[str, Tensor]:
    """Return what the transformer takes as its attention mask: the padding mask itself, or values added to scores.

    Those are for Gemma 3, whose own mask code cannot be exported, by type of layer: ``full_attention``
    ``[B, 1, 1, T]``, ``sliding_attention`` ``[B, 1, T, T]``.

    Raises:
        SimileError: Gemma 3 has causal attention, which its embedding models do not have.
    """
    if not isinstance(transformer, Gemma3TextModel):
        return mask_BT
    if not transformer.config.use_bidirectional_attention:
        raise SimileError("got Gemma 3 with causal attention, need bidirectional attention to export it")
    far_B11T = (mask_BT[:, None, None] == 0).float() * _FAR_BELOW
    is_outside_TT = _distance(mask_BT) >= transformer.config.sliding_window
    return {"full_attention": far_B11T, "sliding_attention": far_B11T + is_outside_TT.float() * _FAR_BELOW}


def _distance(mask_BT: Tensor) -> Tensor:
    """Return the distance in tokens between each two positions, shape ``(T, T)``."""
    place_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    return (place_T[:, None] - place_T[None, :]).abs()


def _split(joint: nn.Linear) -> list[nn.Linear]:
    """Return query, key and value as separate layers, from the one layer that computes all three."""
    parts = []
    for rows in torch.arange(joint.out_features).chunk(3):
        part = nn.Linear(joint.in_features, len(rows), bias=joint.bias is not None)
        part.weight = nn.Parameter(joint.weight[rows].detach().clone())
        if joint.bias is not None:
            part.bias = nn.Parameter(joint.bias[rows].detach().clone())
        parts.append(part)
    return parts


class _Layout:
    """The layout of the batch that is being computed."""

    def set(self, mask_BT: Tensor) -> Tensor:
        """Set the layout, and return the place of each token in the padded batch, counted row by row."""
        flat = mask_BT.reshape(-1)
        self.place_N = flat.nonzero().squeeze(1)
        # The token at each place of the padded batch; at padding, an arbitrary one.
        self.row_BT = (flat.cumsum(0) - 1).clamp(min=0).reshape(mask_BT.shape)
        self.mask_BT = mask_BT.to(torch.int32)
        return self.place_N


class _Attention(nn.Module):
    """A replacement for self-attention; with a ``window``, tokens attend to tokens at most that far away."""

    def __init__(
        self,
        layout: _Layout,
        query: nn.Linear,
        key: nn.Linear,
        value: nn.Linear,
        out: nn.Module,
        *,
        num_heads: int,
        window: int | None,
    ) -> None:
        super().__init__()
        self._layout, self._num_heads, self._window = layout, num_heads, window
        self.query, self.key, self.value, self.out = query, key, value, out

    def forward(
        self,
        hidden_1ND: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        *,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """Return the attended ``[1, N, D]``. The mask comes from the layout: the passed one is for one long text."""
        hidden_ND = hidden_1ND.squeeze(0)
        query_ND, key_ND, value_ND = self.query(hidden_ND), self.key(hidden_ND), self.value(hidden_ND)
        if position_embeddings is not None:
            heads = (1, -1, self._num_heads, self.query.out_features // self._num_heads)
            both = (query_ND.view(heads), key_ND.view(heads))
            rotated = apply_rotary_pos_emb(*both, *position_embeddings, unsqueeze_dim=2)
            query_ND, key_ND = (x_1NHD.reshape(-1, self.query.out_features) for x_1NHD in rotated)
        row_BT = self._layout.row_BT
        laid_out = (query_ND[row_BT], key_ND[row_BT], value_ND[row_BT], self._layout.mask_BT)
        if self._window is not None:
            position_bias = ((_distance(row_BT) > self._window).float() * _FAR_BELOW)[None, None]
        # The exporter does not support functions that are called with None.
        bias = () if position_bias is None else (position_bias,)
        attended_BTD = _MultiHeadAttention.apply(self._num_heads, *laid_out, *bias)  # type: ignore[no-untyped-call]
        attended_ND = attended_BTD.reshape(-1, self.query.out_features)[self._layout.place_N]
        return self.out(attended_ND).unsqueeze(0), None


class _MultiHeadAttention(torch.autograd.Function):
    """ONNX Runtime's fused operator, and its computation in torch."""

    @staticmethod
    def forward(
        _: Any,
        num_heads: int,
        query_BTD: Tensor,
        key_BTD: Tensor,
        value_BTD: Tensor,
        mask_BT: Tensor,
        bias_1HTT: Tensor | float = 0.0,
    ) -> Tensor:
        query_BHTD, key_BHTD, value_BHTD = (
            x.view(*x.shape[:2], num_heads, -1).transpose(1, 2) for x in (query_BTD, key_BTD, value_BTD)
        )
        is_padding = mask_BT[:, None, None] == 0
        bias_BHTT = bias_1HTT + is_padding.to(query_BTD.dtype) * _FAR_BELOW
        attended_BHTD = nn.functional.scaled_dot_product_attention(query_BHTD, key_BHTD, value_BHTD, bias_BHTT)
        return attended_BHTD.transpose(1, 2).flatten(2)

    @staticmethod
    def symbolic(graph: Any, num_heads: int, query: Any, key: Any, value: Any, mask: Any, *bias: Any) -> Any:
        nothing = graph.op("prim::Constant")
        nothing.setType(torch._C.OptionalType.ofTensor())
        inputs = (query, key, value, nothing, mask, *bias)
        attended = graph.op("com.microsoft::MultiHeadAttention", *inputs, num_heads_i=num_heads)
        attended.setType(query.type())
        return attended
