"""The bundle: a directory that holds everything that scoring needs.

manifest.json      what the bundle is; the digest is the hash of its canonical form
members/<name>/    model.onnx, model.fp16.onnx, model.int8.onnx, tokenizer.json    kind "encoder"
members/<name>/    lexical.npz                                                      kind "lexical"
texts.sha256       the hashes of the training texts; the manifest states their digest
evaluation.json    the evaluation reports; not part of the digest
model.sig          the signature of the manifest and the files that it lists; not part of the digest
README.md          the model card; not part of the digest
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from simile.artifacts.provenance import Provenance
from simile.artifacts.strict import ChecksummedModel, StrictModel
from simile.files import sha256_bytes

SCHEMA_VERSION = 3
MANIFEST = "manifest.json"
EVALUATION = "evaluation.json"
TEXTS = "texts.sha256"
CARD = "README.md"
SIGNATURE = "model.sig"

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
DIGEST = r"^(sha256:)?[0-9a-f]{64}$"
"""A digest as a user gives it."""
Name = Annotated[str, Field(pattern=NAME)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(StrictModel):
    """One file of the bundle."""

    path: str
    """Relative to the bundle, with forward slashes."""
    sha256: Sha256
    size_bytes: int = Field(ge=0, lt=2**31)
    """Below 2 GiB: a larger graph would need files of its own for its weights, which no bundle has."""


Pooling = Literal["mean", "cls", "lasttoken"]
"""How the hidden states of a text's tokens become one vector."""
Prompts = tuple[str, str]
"""The prompts of the first and the second texts of pairs. Where they differ, the pairs have two sides: a text has
another embedding as a first than as a second text."""


class EncoderMember(StrictModel):
    """A text encoder: pooling and L2 normalisation are inside its graphs, output ``[B, D]``."""

    kind: Literal["encoder"] = "encoder"
    name: Name
    model: FileEntry
    model_fp16: FileEntry | None = None
    """The graph for CUDA."""
    model_int8: Annotated[FileEntry | None, Field(exclude_if=lambda entry: entry is None)] = None
    """The graph whose products are of 8-bit integers, for processors without bf16. None is left out of the digest."""
    tokenizer: FileEntry
    base: str
    """Public name of the model that it was made from."""
    revision: str | None
    pooling: Pooling
    prompt: str = ""
    """Prepended to every text, unless the pairs have two sides."""
    prompt_a: Annotated[str | None, Field(exclude_if=lambda prompt: prompt is None)] = None
    """Prepended to the first texts of pairs that have two sides. None is left out of the digest."""
    prompt_b: Annotated[str | None, Field(exclude_if=lambda prompt: prompt is None)] = None
    """Prepended to the second texts of such pairs."""
    max_length: int = Field(ge=2, lt=2**20)
    """The longest text in tokens, special tokens included; longer ones are cut."""
    pad_id: int = Field(ge=0, lt=2**31)
    dimension: int = Field(ge=1, lt=2**16)
    matryoshka: Annotated[tuple[int, ...], Field(exclude_if=lambda dimensions: not dimensions)] = ()
    """Numbers of first dimensions that its embedding may be cut to, normalised again, because it was trained for that
    (Kusupati et al. 2022, arXiv:2205.13147). An empty list is left out of the digest."""

    @property
    def prompts(self) -> Prompts:
        """The prompts of the first and the second texts."""
        return prompts_of(self.prompt, self.prompt_a, self.prompt_b)

    @model_validator(mode="after")
    def _cuts_something(self) -> "EncoderMember":
        if not all(1 <= dimensions < self.dimension for dimensions in self.matryoshka):
            got = f"got {self.matryoshka} as cuts of {self.dimension} dimensions"
            raise ValueError(f"{got}, need fewer, and at least 1")
        return self

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file of the member."""
        return tuple(file for file in (self.model, self.model_fp16, self.model_int8, self.tokenizer) if file)


def prompts_of(prompt: str, prompt_a: str | None, prompt_b: str | None) -> Prompts:
    """Return the prompts of the first and the second texts: ``prompt``, unless they have their own."""
    return prompt if prompt_a is None else prompt_a, prompt if prompt_b is None else prompt_b


def have_sides(prompts: Prompts) -> bool:
    """Return whether first and second texts have different prompts."""
    return prompts[0] != prompts[1]


class LexicalMember(StrictModel):
    """A TF-IDF cosine (sublinear term frequency, smoothed inverse document frequency), as scikit-learn defines it."""

    kind: Literal["lexical"] = "lexical"
    name: Name
    vocabulary: FileEntry
    dimension: int = Field(ge=1, le=10_000_000)

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file of the member."""
        return (self.vocabulary,)


Member = Annotated[EncoderMember | LexicalMember, Field(discriminator="kind")]


class Combine(StrictModel):
    """How the members' cosines become one score: their weighted mean."""

    method: Literal["mean", "learned"] = "mean"
    weights: dict[str, Annotated[float, Field(ge=0)]]
    """Weights by member; they sum to 1."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> "Combine":
        if abs(sum(self.weights.values()) - 1) > 1e-6:
            raise ValueError(f"got weights that sum to {sum(self.weights.values()):g}, need 1")
        return self


MIN_CALIBRATION_PAIRS = 50
"""Fewest labelled pairs on which a calibration is fitted."""


class _Calibration(StrictModel):
    """The facts about the labelled pairs that every curve from score to probability was fitted on."""

    positive_share: Annotated[float, Field(gt=0, lt=1)]
    """Share of positives among these pairs: the prior that the probabilities assume."""
    error: Annotated[float | None, Field(ge=0, le=1, exclude_if=lambda error: error is None)] = None
    """Expected calibration error, cross-fitted: each pair's probability comes from a curve fitted on pairs that share
    nothing with it. None, and then left out of the digest, where the pairs cannot be separated like that."""


class PlattCalibration(_Calibration):
    """Probability that a pair is positive: ``1 / (1 + exp(-(slope * score + intercept)))`` (Platt 1999)."""

    method: Literal["platt"] = "platt"
    slope: float
    intercept: float


class IsotonicCalibration(_Calibration):
    """Probability that a pair is positive: linear between these points, constant beyond the first and the last.

    The points are a monotone fit by pooling adjacent violators (Zadrozny & Elkan 2002, doi:10.1145/775047.775151).
    """

    method: Literal["isotonic"] = "isotonic"
    scores: Annotated[tuple[float, ...], Field(min_length=1, max_length=10_000)]
    """Scores in strictly increasing order."""
    probabilities: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    """One probability per score, none below the one before."""

    @model_validator(mode="after")
    def _is_monotone(self) -> "IsotonicCalibration":
        if len(self.scores) != len(self.probabilities):
            raise ValueError(f"got {len(self.scores)} scores and {len(self.probabilities)} probabilities, need as many")
        if any(low >= high for low, high in pairwise(self.scores)):
            raise ValueError("got scores that do not increase, need each above the one before")
        if any(low > high for low, high in pairwise(self.probabilities)):
            raise ValueError("got probabilities that decrease, need none below the one before")
        return self


Calibration = Annotated[PlattCalibration | IsotonicCalibration, Field(discriminator="method")]
CalibrationMethod = Literal["platt", "isotonic"]


class Thresholds(StrictModel):
    """Decision thresholds on the score, fitted on the dev pairs."""

    best_f1: float
    precision_95: float | None
    """The lowest score above which 95 % of the pairs are positive; None where no score reaches that."""


class GoldenPair(StrictModel):
    """A pair shipped with the project, with the score that each member gave it when the bundle was made."""

    text_a: str
    text_b: str
    scores: dict[str, float]


class Manifest(ChecksummedModel):
    """The description of a bundle."""

    schema_version: Literal[3] = 3
    name: Name
    members: tuple[Member, ...] = Field(min_length=1)
    combine: Combine
    calibration: Calibration | None = None
    thresholds: Thresholds | None = None
    golden: tuple[GoldenPair, ...] = Field(min_length=1)
    made: Provenance
    """How the bundle was made: config without secrets and paths, seed, versions, data hashes."""

    @model_validator(mode="after")
    def _names_agree(self) -> "Manifest":
        names = [member.name for member in self.members]
        if len(set(names)) < len(names):
            raise ValueError(f"got members {names}, need a different name for each")
        if set(self.combine.weights) != set(names):
            raise ValueError(f"got weights for {sorted(self.combine.weights)}, need one for each of {sorted(names)}")
        if any(set(golden.scores) != set(names) for golden in self.golden):
            raise ValueError(f"got a golden pair without a score of each of {sorted(names)}")
        return self

    @property
    def digest(self) -> str:
        """The checksum of the manifest, which contains the sha256 of every file."""
        return self.checksum


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files agree with its manifest."""

    path: Path
    """The resolved path, which stays the same if the caller's path is a link that moves."""
    manifest: Manifest
    data: Mapping[str, bytes]
    """Bytes of the files, by their path in the manifest. Each access reads them from disk and verifies them."""
    manifest_sha256: str = ""
    """The SHA-256 of the bytes that the manifest was parsed from, which a signature must state."""
    identity: str = field(init=False)
    """``name@sha256:digest``; computed once, because every response names it and the digest takes 0.1 ms."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", f"{self.manifest.name}@sha256:{self.manifest.digest}")


def file_entry(path: str, data: bytes) -> FileEntry:
    """Return the manifest entry of a file with these bytes."""
    return FileEntry(path=path, sha256=sha256_bytes(data), size_bytes=len(data))
