"""Embeddings of texts by an encoder member.

Shape suffixes: P = pairs, N = texts, B = texts of a batch, T = tokens, D = dimensions.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import Unigram

from simile.artifacts import Bundle, EncoderMember, FileEntry
from simile.artifacts.bundle import have_sides
from simile.errors import BundleError, InputError
from simile.scoring.faults import blaming
from simile.scoring.graph import Graph
from simile.scoring.provider import Runtime

BATCH_TOKENS, BATCH_TEXTS = 4096, 64
"""Maximum numbers of padded tokens and of texts in a batch."""
_CHARACTERS_PER_TOKEN = 64
"""Characters that are kept of a text per token of the member's length: tokenizing cost grows with the raw text."""

_UNIT_TOLERANCE = 0.02
"""Maximum difference of an embedding's length from 1: bf16 has 8 bits of mantissa."""


Side = Literal[0, 1]
"""Whether a text is the first or the second one of its pair."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One tokenized text."""

    ids: NDArray[np.int64]
    is_cut: bool
    """Whether the text was longer than the member's ``max_length``."""
    num_unknown: int
    """Number of those tokens that stand for something the tokenizer does not know."""


class Encoder:
    """One encoder of a bundle on one runtime.

    All methods are thread-safe; more than `Runtime.batches_at_once` threads gain nothing.
    """

    def __init__(self, bundle: Bundle, member: EncoderMember, runtime: Runtime) -> None:
        self.name, self.dimension, self.max_length = member.name, member.dimension, member.max_length
        self.runtime = runtime
        self._prompts, self._pad_id = member.prompts, member.pad_id
        self.has_sides = have_sides(member.prompts)
        """Whether a text has another embedding as a first than as a second text of pairs."""
        self._max_characters = member.max_length * _CHARACTERS_PER_TOKEN
        self._bundle_path = bundle.path
        path = member.tokenizer.path
        with blaming(bundle.path, f"{path} is not a tokenizer"):
            self._tokenizer = Tokenizer.from_str(bundle.data[path].decode())
            self._unknown_id = _unknown_id(self._tokenizer, bundle.data[path])
            # Changing the tokenizer is not thread-safe, so it is configured before any thread uses it.
            self._tokenizer.enable_truncation(member.max_length)
            self._tokenizer.no_padding()
        self.num_special: int = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        """Number of tokens that the tokenizer adds to every text."""
        model = _graph_for(runtime, member, bundle)
        graph = bundle.data[model.path]
        try:
            self._graph = Graph(graph, runtime)
        except InputError as error:
            raise BundleError(f"{bundle.path}: {model.path}: {error}") from error

    def check(self) -> None:
        """Refuse, by a `BundleError`, an encoder whose graph lacks a token of its tokenizer, or gives no unit vectors.

        Computes two short texts: the tokenizer's last token with padding, and twice that token.
        """
        last = max(self._tokenizer.get_vocab().values(), default=0)
        embedding_BD = self.embed_batch([np.array([last]), np.array([last, last])])
        got = f"{self._bundle_path}: member {self.name} gives vectors"
        if embedding_BD.shape != (2, self.dimension):
            raise BundleError(f"{got} of shape {embedding_BD.shape[1:]}, need ({self.dimension},) as its manifest says")
        lengths = np.linalg.norm(embedding_BD.astype(np.float64), axis=1)
        if not np.abs(lengths - 1).max() <= _UNIT_TOLERANCE:
            raise BundleError(f"{got} of length {lengths.max():g}, need 1")

    def tokenize(self, texts: Sequence[str], sides: Sequence[Side] | None = None) -> list[Tokens]:
        """Return the tokens of each text with the prompt of its side before it, cut to the member's length.

        Without ``sides``, all are first texts.
        """
        prompts = [self._prompts[side] for side in sides or [0] * len(texts)]
        prompted = [prompt + text[: self._max_characters] for prompt, text in zip(prompts, texts, strict=True)]
        is_long = [len(text) > self._max_characters for text in texts]
        encodings = self._tokenizer.encode_batch_fast(prompted)
        # Every look at an encoding's ids makes the list anew.
        return [
            Tokens(np.array(ids, dtype=np.int64), bool(encoding.overflowing) or is_cut, ids.count(self._unknown_id))
            for encoding, is_cut in zip(encodings, is_long, strict=True)
            for ids in [encoding.ids]
        ]

    def unknown_share(self, texts: Sequence[str]) -> float:
        """Return the share of the texts' tokens that the tokenizer does not know, in [0, 1]; special ones aside."""
        tokens = self.tokenize(texts)
        num_tokens = sum(len(text.ids) - self.num_special for text in tokens)
        return sum(text.num_unknown for text in tokens) / max(1, num_tokens)

    def embed_tokens(
        self, tokens: Sequence[Tokens], on_progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Return the embeddings, shape ``(N, D)``, each of length 1; see `Scorer.score_members` for ``on_progress``."""
        embedding_ND = np.empty((len(tokens), self.dimension), dtype=np.float32)

        def compute(index_B: list[int]) -> int:
            embedding_ND[index_B] = self.embed_batch([tokens[i].ids for i in index_B])
            return len(index_B)

        with ThreadPoolExecutor(self.runtime.batches_at_once) as pool:
            for num_done in pool.map(compute, length_sorted_batches([len(text.ids) for text in tokens])):
                if on_progress:
                    on_progress(num_done)
        return embedding_ND

    def embed_batch(self, ids: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return the embeddings of one batch of token ids, shape ``(B, D)``, padded to the longest text."""
        longest = max(map(len, ids))
        ids_BT = np.full((len(ids), longest), self._pad_id, dtype=np.int64)
        mask_BT = np.zeros((len(ids), longest), dtype=np.int64)
        for row, text in enumerate(ids):
            ids_BT[row, : len(text)] = text
            mask_BT[row, : len(text)] = 1
        return self._graph.embed(ids_BT, mask_BT)


def _graph_for(runtime: Runtime, member: EncoderMember, bundle: Bundle) -> FileEntry:
    """Return the member's graph that the runtime computes with, or raise a `BundleError` where it has none."""
    match runtime.precision:
        case "fp32":
            return member.model
        case "int8":
            if member.model_int8 is None:
                raise BundleError(f"{bundle.path}: member {member.name} has no graph in int8, try --precision fp32")
            return member.model_int8
        case "bf16" if runtime.provider == "CPUExecutionProvider":
            # ONNX Runtime rounds the factors of the products in the graph in fp32.
            return member.model
        case _:
            # The fp16 graph is padded: OpenVINO lacks an operator of the graph without padding.
            return member.model_fp16 or member.model


def _unknown_id(tokenizer: Tokenizer, content: bytes) -> int:
    """Return the id of the token that stands for what the tokenizer does not know; -1 if it can write every text."""
    if isinstance(tokenizer.model, Unigram):
        # The library does not tell the id of this model.
        index: int | None = json.loads(content)["model"].get("unk_id")
    else:
        token = tokenizer.model.unk_token
        index = None if token is None else tokenizer.token_to_id(token)
    return -1 if index is None else index


def cosines(embedding_ND: NDArray[np.float32], pair_P2: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the cosine of each pair of rows, shape ``(P,)``; the rows have length 1."""
    score_P = np.einsum("pd,pd->p", embedding_ND[pair_P2[:, 0]], embedding_ND[pair_P2[:, 1]])
    return np.asarray(score_P.clip(-1, 1), dtype=np.float32)


def length_sorted_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the indices of texts in batches of similar length, the longest first.

    A batch holds at most `BATCH_TEXTS` texts and `BATCH_TOKENS` padded tokens, but always at least one text. The order
    keeps padding small and makes memory peak at the start.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) == BATCH_TEXTS or (len(batch) + 1) * lengths[batch[0]] > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
