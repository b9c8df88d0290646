"""Encoders in torch: loading base encoders and checking what training and export need.

Weights are loaded as safetensors only, and no code is loaded with them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simile.artifacts.bundle import Pooling, Prompts
from simile.errors import InputError
from simile.files import sha256_bytes, sha256_file
from simile.hardware import guard_amx
from training.bundled import PREFIX, bundled_encoder

guard_amx()
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# GNU OpenMP's threads spin at every barrier: if another process wants the core, a step then takes ten times as long.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import torch  # noqa: E402 - the guard must come first
from huggingface_hub import snapshot_download  # noqa: E402
from huggingface_hub.utils import logging as hub_logging  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Transformer  # noqa: E402
from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule  # noqa: E402
from torch import nn  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402

hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

_MIN_TEXT_TOKENS = 4
_MAX_WEIGHTS = 2**29
"""Weights of a graph of 2 GiB in fp32: no file of a bundle may be larger."""
_HUB_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")


@dataclass(frozen=True, slots=True)
class TorchEncoder:
    """An encoder loaded by sentence-transformers, with what training and export need to know about it."""

    name: str
    """Public name: the hub name, or the last part of a local folder."""
    revision: str | None
    model: SentenceTransformer
    pooling: Pooling
    max_length: int
    """Maximum number of tokens per text; longer texts are truncated."""
    is_bf16: bool = False
    """Whether texts are encoded in bf16 where torch's autocast allows it."""

    @property
    def dimension(self) -> int:
        """Number of dimensions of the embeddings."""
        return int(self.model.get_embedding_dimension())

    @property
    def transformer(self) -> Transformer:
        """The module that holds the transformer's weights, which are those that are trained."""
        return self.model[0]

    @property
    def dense(self) -> list[Dense]:
        """The dense layers after pooling, which few encoders have."""
        return [module for module in self.model if isinstance(module, Dense)]


def load_encoder(
    spec: str, revision: str | None = None, max_length: int | None = None, *, attention_dropout: bool = True
) -> TorchEncoder:
    """Return the base encoder named by a hub name (``NAME`` or ``NAME@REVISION``), a folder, or ``bundled:NAME``.

    Without ``attention_dropout``, training does not apply the dropout of attention weights that its config states.

    Raises:
        InputError: the encoder cannot be reached, is damaged, or has an architecture that cannot be exported.
    """
    source, name, revision = _locate(spec, revision)
    try:
        if not Path(source).is_dir():
            # From here on the encoder is loaded from this folder: a checkpoint names the base that it adapts, but not
            # its revision.
            source = snapshot_download(source, revision=revision, allow_patterns=list(_HUB_FILES))
            revision = Path(source).name
        model = SentenceTransformer(
            source,
            device="cpu",
            trust_remote_code=False,
            # Not in the checkpoint's dtype: AdamW and merged adapters need more bits than fp16 and bf16 have.
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            config_kwargs=None if attention_dropout else {"attention_probs_dropout_prob": 0.0},
        )
    # The hub's client, transformers and safetensors raise many classes without a common base class.
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"{spec}: cannot load this encoder ({first[:200]})") from error
    # Only the config sets a prompt: one that came with the encoder would be put before the dev texts only.
    model.prompts, model.default_prompt_name = {}, None
    # Graphs and the service pad on the right.
    model.tokenizer.padding_side = "right"
    pooling, settings = _pooling_of(model, spec), model[0].model.config
    # MPNet reserves the first two positions.
    is_offset = settings.model_type in ("mpnet", "roberta", "xlm-roberta")
    limit = int(settings.max_position_embeddings) - (2 if is_offset else 0)
    own_length = min(int(model.max_seq_length or limit), limit)
    if max_length is not None:
        if max_length > limit:
            raise InputError(f"{spec}: got max_length {max_length}, this encoder reads at most {limit} tokens")
        model.max_seq_length = max_length
    return TorchEncoder(name, revision, model, pooling, max_length or own_length)


def linear_layers(transformer: nn.Module) -> list[str]:
    """Return the names of all linear layers that the embedding depends on (poolers only feed classifiers)."""
    names = [name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    return [name for name in names if "pooler" not in name.split(".")]


def fingerprint(spec: str) -> str | None:
    """Return a hash of a local folder's weights and settings; None for an encoder that its name identifies."""
    folder = Path(spec)
    if not folder.is_dir():
        return None
    files = sorted({path for pattern in _HUB_FILES for path in folder.rglob(pattern) if path.is_file()})
    lines = [f"{path.relative_to(folder).as_posix()} {sha256_file(path)}\n" for path in files]
    return sha256_bytes("".join(lines).encode())


def require_fits(spec: str, encoder: TorchEncoder, prompts: Prompts, matryoshka: Sequence[int]) -> None:
    """Refuse what cannot be exported or used.

    That is an encoder whose graph would not fit into a file of a bundle, a prompt that leaves no tokens for the texts,
    and to cut embeddings to none or all of their dimensions.
    """
    num_weights = sum(value.numel() for value in encoder.model.parameters())
    if num_weights >= _MAX_WEIGHTS:
        raise InputError(f"{spec}: got {num_weights:,} weights, need fewer than {_MAX_WEIGHTS:,} (2 GiB in fp32)")
    num_tokens = max(len(encoder.model.tokenizer(prompt)["input_ids"]) if prompt else 0 for prompt in prompts)
    max_tokens = encoder.max_length - _MIN_TEXT_TOKENS
    if num_tokens > max_tokens:
        raise InputError(f"{spec}: got a prompt of {num_tokens} tokens, need at most {max_tokens} at this max_length")
    if wrong := [dimensions for dimensions in matryoshka if not 1 <= dimensions < encoder.dimension]:
        raise InputError(f"{spec}: got matryoshka {wrong[0]}, need from 1 to {encoder.dimension - 1} dimensions")


def _locate(spec: str, revision: str | None) -> tuple[str, str, str | None]:
    """Return where to load from, the public name, and the revision."""
    if spec.startswith(PREFIX):
        encoder = bundled_encoder(spec)
        return str(encoder.locate(encoder)), encoder.name, encoder.revision
    if spec and Path(spec).is_dir():
        if revision:
            raise InputError(f"{spec}: got revision {revision!r} for a local folder, which has one version only")
        return spec, public_name(spec), None
    name, separator, at = spec.partition("@")
    if spec.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(
            f"{spec}: no such folder, and no hub name (need organisation/model, bundled:minilm or bundled:mpnet)"
        )
    if separator and not at:
        raise InputError(f"got base {spec!r}, need a revision after the @")
    return name, name, at or revision


def public_name(spec: str) -> str:
    """Return the name of a base as published: the last part of a local folder, all else unchanged."""
    return Path(spec).resolve().name if Path(spec).is_dir() else spec


def _pooling_of(model: SentenceTransformer, spec: str) -> Pooling:
    types = [type(module) for module in model]
    if types[:2] != [Transformer, PoolingModule] or any(other not in (Dense, Normalize) for other in types[2:]):
        got = ", ".join(module_type.__name__ for module_type in types)
        raise InputError(f"{spec}: got modules {got}, need Transformer, Pooling and at most Dense and Normalize")
    match str(model[1].pooling_mode):
        case "mean" | "cls" | "lasttoken" as mode:
            return mode
        case other:
            raise InputError(f"{spec}: got {other!r} pooling, need mean, cls or lasttoken")
