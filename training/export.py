"""Export: a sentence-transformers encoder -> ONNX graphs with pooling and L2 norm inside, proven equal to torch.

Shape suffixes: B = texts of a batch, T = tokens, D = dimensions.
"""

import copy
import io
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from torch import Tensor, nn

from simile import __version__
from simile.artifacts import Bundle, Combine, EncoderMember, Manifest, Provenance, file_entry
from simile.artifacts.bundle import Member, Prompts, have_sides
from simile.errors import SimileError
from simile.hardware import has_int8_products
from simile.malloc import release_memory
from simile.progress import say
from simile.scoring import Scorer, choose_runtime, golden_pairs, unscored_pairs
from simile.scoring.provider import TOLERANCE, open_session
from training.int8 import to_int8
from training.interpolation import general_clusters
from training.torch_encoder import TorchEncoder
from training.unpadded import Unpadded, attention_masks, can_unpad

_OPSET = 17
_PARITY, _PARITY_LENGTHS, _MAX_PARITY_LENGTH = 1e-4, (1, 12, 40, 128), 2048
"""Maximum difference from torch in fp32, in any coordinate of a unit vector; the lengths at which it is checked, beside
the encoder's own up to a limit, since attention in torch takes memory with the square of the length."""
_MAX_HALF = 1e4
"""Bound for fp16 values, which reach 65,504: attention masks are clipped to it so that sums with them stay finite."""
_NUM_SENTENCES, _SENTENCES_PER_BATCH = 256, 16
"""The number of general sentences that check the graphs in fp16 and int8 (the first half smooths the latter)."""
_MIN_COARSE_COSINE = 0.98
"""The least cosine of an embedding in int8 or fp16 with that in fp32."""
_RMS_NORM = ("Pow", "ReduceMean", "Sqrt", "Div", "Reciprocal")
"""Operators of an RMS norm, which ONNX Runtime 1.24 fails to fuse, and so to load, in fp16."""


Floats = NDArray[np.float32]


class _Graph(nn.Module):
    """The computation of the graph: ids and mask -> unit vectors ``[B, D]``."""

    def __init__(self, transformer: nn.Module, encoder: TorchEncoder) -> None:
        super().__init__()
        self.transformer, self.pooling = transformer, encoder.pooling
        self.dense = nn.ModuleList(copy.deepcopy(encoder.dense)).float().cpu()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_masks(self.transformer, attention_mask)
        hidden_BTD = self.transformer(input_ids=input_ids, attention_mask=mask).last_hidden_state
        if self.pooling == "cls":
            pooled_BD = hidden_BTD[:, 0]
        elif self.pooling == "lasttoken":
            last_B11 = (attention_mask.sum(1) - 1)[:, None, None]
            pooled_BD = hidden_BTD.gather(1, last_B11.expand(-1, 1, hidden_BTD.shape[2]))[:, 0]
        else:
            mask_BT1 = attention_mask.unsqueeze(-1).to(hidden_BTD.dtype)
            pooled_BD = (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)
        features = {"sentence_embedding": pooled_BD}
        for dense in self.dense:
            features = dense(features)
        return nn.functional.normalize(features["sentence_embedding"], dim=-1)


def export_member(
    encoder: TorchEncoder, *, name: str, prompts: Prompts = ("", ""), matryoshka: tuple[int, ...] = ()
) -> tuple[EncoderMember, dict[str, bytes]]:
    """Return the member and its files, or raise a `SimileError` where a graph and torch disagree."""
    # On a float32 copy with eager attention, the only one that exports to operators which runtimes fuse.
    transformer = copy.deepcopy(encoder.transformer.model).float().cpu().eval()
    transformer.set_attn_implementation("eager")
    graph = _Graph(transformer, encoder).eval()
    model, checks = _to_onnx(graph), list(_parity_checks(graph, encoder))
    _check_parity(checks, model, encoder)
    sentences = list(_batches(encoder, _sentences(prompts)))
    half = _to_half(checks, sentences, model)
    # The conversion has copied the encoder several times, and malloc holds 1.3 GB of MPNet's copies back.
    release_memory()
    if half is None:
        say(f"note: {encoder.name} exceeds what fp16 can hold, so the bundle has a graph in fp32 only")
    # OpenVINO runs no graph without padding, and takes the one in fp32 where there is no other.
    elif can_unpad(transformer):
        model = _to_onnx(_Graph(Unpadded(transformer), encoder).eval())
        _check_parity(checks, model, encoder)
    int8 = _to_int8(model, sentences)
    if int8 is None:
        say(f"note: {encoder.name} exceeds what int8 can hold, so the bundle has no graph in int8")
    files = {
        f"members/{name}/model.onnx": model,
        f"members/{name}/tokenizer.json": encoder.model.tokenizer.backend_tokenizer.to_str().encode(),
    }
    has_sides = have_sides(prompts)
    graph_entry, tokenizer_entry = (file_entry(*item) for item in files.items())
    for precision, content in (("fp16", half), ("int8", int8)):
        if content is not None:
            files[f"members/{name}/model.{precision}.onnx"] = content
    member = EncoderMember(
        name=name,
        model=graph_entry,
        model_fp16=None if half is None else file_entry(f"members/{name}/model.fp16.onnx", half),
        model_int8=None if int8 is None else file_entry(f"members/{name}/model.int8.onnx", int8),
        tokenizer=tokenizer_entry,
        base=encoder.name,
        revision=encoder.revision,
        pooling=encoder.pooling,
        prompt="" if has_sides else prompts[0],
        prompt_a=prompts[0] if has_sides else None,
        prompt_b=prompts[1] if has_sides else None,
        max_length=encoder.max_length,
        pad_id=int(encoder.model.tokenizer.pad_token_id or 0),
        dimension=encoder.dimension,
        matryoshka=matryoshka,
    )
    return member, files


def manifest_and_scorer(
    out: Path, member: Member, files: dict[str, bytes], made: Provenance
) -> tuple[Manifest, Scorer]:
    """Return the manifest of a bundle with this one member, and the fp32 CPU scorer that scored its golden pairs."""
    combine = Combine(weights={member.name: 1.0})
    unscored = unscored_pairs([member.name])
    manifest = Manifest(name=out.name, members=(member,), combine=combine, golden=unscored, made=made)
    scorer = Scorer(Bundle(out, manifest, files), choose_runtime("cpu", "fp32"))
    return manifest.model_copy(update={"golden": golden_pairs(scorer)}), scorer


def versions() -> dict[str, str]:
    """Return the versions of the packages that a bundle's numbers depend on."""
    packages = ("torch", "transformers", "sentence-transformers", "peft", "onnx", "tokenizers")
    return {"simile": __version__, "python": sys.version.split()[0]} | {name: version(name) for name in packages}


def _to_onnx(graph: _Graph) -> bytes:
    # The example has two texts and padding, so that its shape is not baked into the graph.
    ids_BT = torch.full((2, 7), 5, dtype=torch.int64)
    mask_BT = torch.ones_like(ids_BT)
    mask_BT[1, 4:] = 0
    axes, buffer = {0: "batch", 1: "length"}, io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (ids_BT, mask_BT),
            buffer,  # type: ignore[arg-type]
            input_names=["input_ids", "attention_mask"],
            output_names=["embedding"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "embedding": {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def _to_half(checks: Sequence["_ParityCheck"], sentences: Sequence["_Batch"], model: bytes) -> bytes | None:
    """Return the graph in fp16, with the operators of an RMS norm in fp32 where needed; None where fp16 is too small.

    Gemma's hidden states, for example, exceed the largest fp16 number.
    """
    for in_fp32 in ((), _RMS_NORM):
        loaded, blocked = onnx.load_from_string(model), [*DEFAULT_OP_BLOCK_LIST, *in_fp32]
        half = convert_float_to_float16(loaded, max_finite_val=_MAX_HALF, keep_io_types=True, op_block_list=blocked)
        data: bytes = half.SerializeToString()
        # ONNX Runtime may refuse the graph.
        with suppress(SimileError):
            cosines = [
                (embedding_BD * check.expected_BD).sum(1).min() for check, embedding_BD in _computed(checks, data)
            ]
            if min(cosines) >= _MIN_COARSE_COSINE and _largest_difference(model, data, sentences) <= TOLERANCE["fp16"]:
                return data
    return None


def _to_int8(model: bytes, sentences: Sequence["_Batch"]) -> bytes | None:
    """Return the graph in int8; None where its embeddings of sentences are too far from those in fp32."""
    half = len(sentences) // 2
    data = to_int8(model, iter(sentences[:half]))
    if not has_int8_products():
        say("note: this processor cannot check the graph in int8; loading checks the golden pairs")
        return data
    for exact_BD, coarse_BD in _embeddings(model, data, sentences[half:]):
        if not (exact_BD * coarse_BD).sum(1).min() >= _MIN_COARSE_COSINE:
            return None
    return data


def _largest_difference(model: bytes, other: bytes, batches: Sequence["_Batch"]) -> float:
    return max(float(np.abs(exact_BD - coarse_BD).max()) for exact_BD, coarse_BD in _embeddings(model, other, batches))


def _embeddings(model: bytes, other: bytes, batches: Sequence["_Batch"]) -> Iterator[tuple[Floats, Floats]]:
    """Yield the embeddings of each batch by the two graphs."""
    sessions = [open_session(one, choose_runtime("cpu", "fp32")) for one in (model, other)]
    for ids_BT, mask_BT in batches:
        first_BD, second_BD = (
            np.asarray(session.run(None, {"input_ids": ids_BT, "attention_mask": mask_BT})[0]) for session in sessions
        )
        yield first_BD, second_BD


def _sentences(prompts: Prompts) -> list[str]:
    """Return the sentences by which the coarser graphs are compared with the one in fp32.

    Fragments of text, without the tokens that begin and end a text, are no test of them: MPNet's embeddings of some in
    int8 have a cosine of 0.68, those of sentences of 0.99 or more; in fp16, those of a tuned MPNet differ by more than
    0.005 on some fragments.
    """
    return [prompts[0] + sentence for cluster in general_clusters() for sentence in cluster][:_NUM_SENTENCES]


_Batch = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Token ids and mask of some texts."""


def _batches(encoder: TorchEncoder, texts: Sequence[str]) -> Iterator[_Batch]:
    for start in range(0, len(texts), _SENTENCES_PER_BATCH):
        tokens = encoder.model.preprocess(list(texts[start : start + _SENTENCES_PER_BATCH]))
        yield tokens["input_ids"].numpy(), tokens["attention_mask"].numpy()


@dataclass(frozen=True, slots=True)
class _ParityCheck:
    """A batch of running text, and its embeddings by torch."""

    ids_BT: NDArray[np.int64]
    mask_BT: NDArray[np.int64]
    expected_BD: Floats


def _parity_checks(graph: _Graph, encoder: TorchEncoder) -> Iterator[_ParityCheck]:
    for ids_BT, mask_BT in _parity_inputs(encoder):
        with torch.no_grad():
            yield _ParityCheck(ids_BT, mask_BT, graph(torch.from_numpy(ids_BT), torch.from_numpy(mask_BT)).numpy())


def _computed(checks: Sequence[_ParityCheck], model: bytes) -> Iterator[tuple[_ParityCheck, Floats]]:
    """Yield each check with the embeddings that the model gives."""
    session = open_session(model, choose_runtime("cpu", "fp32"))
    for check in checks:
        (embedding_BD,) = session.run(None, {"input_ids": check.ids_BT, "attention_mask": check.mask_BT})
        yield check, np.asarray(embedding_BD)


def _check_parity(
    checks: Sequence[_ParityCheck], model: bytes, encoder: TorchEncoder, tolerance: float = _PARITY
) -> None:
    for check, embedding_BD in _computed(checks, model):
        difference = float(np.abs(embedding_BD - check.expected_BD).max())
        if not difference <= tolerance:
            at = f"{difference:.1e} from torch at shape {check.ids_BT.shape}"
            raise SimileError(f"export of {encoder.name}: {at}, need {tolerance:.0e}")


def _parity_inputs(encoder: TorchEncoder) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield ids and masks of running text in several lengths and batch sizes, which exports are known to bake in.

    Random ids are no text: MPNet's fp16 embeddings of some differ from torch by 0.009, of text by 0.002.
    """
    rng = np.random.default_rng(0)
    text = " ".join(sentence for cluster in general_clusters() for sentence in cluster)
    stream_T = np.array(encoder.model.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int64)
    longest = min(encoder.max_length, _MAX_PARITY_LENGTH)
    lengths = sorted({min(length, longest) for length in (*_PARITY_LENGTHS, longest)})
    for num_texts in (1, 12):
        for length in lengths:
            num_texts = min(num_texts, max(1, 4096 // length))
            start_B1 = rng.integers(len(stream_T), size=(num_texts, 1))
            ids_BT = stream_T.take(start_B1 + np.arange(length), mode="wrap")
            mask_BT = np.ones_like(ids_BT)
            for row in range(1, num_texts):
                end = int(rng.integers(1, length + 1))
                mask_BT[row, end:] = 0
                ids_BT[row, end:] = encoder.model.tokenizer.pad_token_id or 0
            yield ids_BT, mask_BT
