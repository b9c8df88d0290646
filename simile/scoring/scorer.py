"""Scores of text pairs by a bundle; mining, evaluation and serving all score through here.

Shape suffixes: P = pairs, N = texts, D = dimensions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simile.artifacts import Bundle, EncoderMember, GoldenPair, read_bundle, require_signature, stored_evaluations
from simile.errors import BundleError, InputError
from simile.scoring.encoder import Encoder, Side, cosines
from simile.scoring.faults import blaming
from simile.scoring.golden import GOLDEN_PAIRS
from simile.scoring.lexical import Lexical
from simile.scoring.provider import TOLERANCE, Device, Precision, Runtime, choose_runtime
from simile.text_input import checked_pairs, checked_texts

Pairs = Sequence[tuple[str, str]]
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of pairs and counts of the work."""

    score_P: NDArray[np.float32]
    """Scores of the ensemble, in [-1, 1]."""
    members: Mapping[str, NDArray[np.float32]]
    """Cosines of each member by its name."""
    num_texts: int
    """Number of distinct texts among the pairs, on each side where the two sides differ."""
    num_tokens: int
    """Number of tokens of those texts, summed over the members."""
    num_cut: int
    """Number of those texts that exceed the maximum length of some member."""
    num_unknown: int
    """Number of those tokens that stand for something a tokenizer does not know."""


class Scorer:
    """A loaded bundle on one runtime; not thread-safe."""

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        # The sessions have copied the graphs, whose bytes would be a fifth of a service's memory.
        self.bundle = replace(bundle, data={})
        self.runtime = runtime
        self.members: tuple[Encoder | Lexical, ...] = tuple(
            Encoder(bundle, member, runtime) if isinstance(member, EncoderMember) else Lexical(bundle, member)
            for member in bundle.manifest.members
        )

    @property
    def has_sides(self) -> bool:
        """Whether some member gives a text another embedding as a first than as a second text of pairs."""
        return any(isinstance(member, Encoder) and member.has_sides for member in self.members)

    @property
    def dimension(self) -> int:
        """Dimension of the ensemble's embeddings; lexical members have none."""
        return sum(member.dimension for member in self.members if isinstance(member, Encoder))

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Dimensions that an embedding can have: all, then the smaller ones of a lone Matryoshka encoder."""
        members = self.bundle.manifest.members
        alone = members[0] if len(members) == 1 else None
        return (self.dimension, *(alone.matryoshka if isinstance(alone, EncoderMember) else ()))

    def score(self, pairs: Iterable[tuple[str, str]]) -> NDArray[np.float32]:
        """Return the score of each pair, shape ``(P,)``, in [-1, 1]; for errors see `score_members`."""
        return self.score_members(pairs).score_P

    def score_members(self, pairs: Iterable[tuple[str, str]], on_progress: Progress | None = None) -> Scored:
        """Return the score of each pair, and the scores of each member; equal texts are computed once.

        ``on_progress`` is called with the number of texts done since the last call; each member counts all texts.

        Raises:
            InputError: a pair is not two texts, and where it is.
        """
        texts, sides, pair_P2 = distinct_texts(checked_pairs(pairs), have_sides=self.has_sides)
        scores: dict[str, NDArray[np.float32]] = {}
        num_tokens = num_unknown = 0
        is_cut_N = np.zeros(len(texts), dtype=bool)
        for member in self.members:
            if isinstance(member, Lexical):
                scores[member.name] = member.cosines(texts, pair_P2)
                if on_progress:
                    on_progress(len(texts))
                continue
            tokens = member.tokenize(texts, sides)
            embedding_ND = member.embed_tokens(tokens, on_progress)
            scores[member.name] = cosines(embedding_ND, pair_P2)
            num_tokens += sum(len(text.ids) for text in tokens)
            num_unknown += sum(text.num_unknown for text in tokens)
            is_cut_N |= np.array([text.is_cut for text in tokens], dtype=bool)
        return Scored(self.combine(scores), scores, len(texts), num_tokens, int(is_cut_N.sum()), num_unknown)

    def unknown_shares(self, pairs: Pairs) -> dict[str, float]:
        """Return `Encoder.unknown_share` of the pairs' distinct texts by the name of each encoder's base."""
        texts = distinct_texts(pairs).texts
        members = zip(self.bundle.manifest.members, self.members, strict=True)
        return {
            described.base: member.unknown_share(texts)
            for described, member in members
            if isinstance(described, EncoderMember) and isinstance(member, Encoder)
        }

    def embed(
        self, texts: Iterable[str], on_progress: Progress | None = None, *, side: Side | None = None
    ) -> NDArray[np.float32]:
        """Return one vector per text, shape ``(N, D)``, each of length 1: the cosine of two is the ensemble's score.

        A vector joins the members' embeddings, each times the square root of its weight; lexical members are refused,
        as they have none. For ``on_progress`` see `score_members`. Where `has_sides`, ``side`` says whether the texts
        are the first (0) or the second ones (1) of pairs.

        Raises:
            InputError: ``texts`` is one text in place of several, one of them is no text, or ``side`` is missing.
        """
        if side is None and self.has_sides:
            raise InputError(f"{self.bundle.path}: its two sides have different prompts, need side=0 or side=1")
        texts = checked_texts(texts)
        encoders = [member for member in self.members if isinstance(member, Encoder)]
        if lexical := [member.name for member in self.members if isinstance(member, Lexical)]:
            raise InputError(f"{self.bundle.path}: member {lexical[0]} has no embeddings, need encoders only")
        sides: list[Side] = [side or 0] * len(texts)
        return self.join([encoder.embed_tokens(encoder.tokenize(texts, sides), on_progress) for encoder in encoders])

    def join(self, embeddings: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the ensemble's embeddings, shape ``(N, D)``, from those of its members, which are all encoders."""
        weights = self.bundle.manifest.combine.weights
        factors = [np.float32(np.sqrt(weights[member.name])) for member in self.members]
        return np.concatenate([factor * part_ND for factor, part_ND in zip(factors, embeddings, strict=True)], axis=1)

    def combine(self, scores: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the weighted mean of the members' scores, shape ``(P,)``."""
        weights = self.bundle.manifest.combine.weights
        total_P = sum(weights[name] * score_P.astype(np.float64) for name, score_P in scores.items())
        return np.asarray(total_P, dtype=np.float32)

    def check_golden(self) -> float:
        """Return the largest deviation from the golden scores; a `BundleError` if the precision does not explain it."""
        golden = self.bundle.manifest.golden
        with blaming(self.bundle.path, f"cannot be computed on {self.runtime}"):
            for member in self.members:
                if isinstance(member, Encoder):
                    member.check()
            members = self.score_members([(pair.text_a, pair.text_b) for pair in golden]).members
        gaps = [float(members[name][i]) - s for i, pair in enumerate(golden) for name, s in pair.scores.items()]
        # Unlike Python's max, NumPy's is NaN if any score is.
        worst = float(np.max(np.abs(gaps), initial=0))
        if not worst <= (tolerance := TOLERANCE[self.runtime.precision]):
            got = f"{self.bundle.path}: golden pairs differ by {worst:.1e} on {self.runtime}"
            raise BundleError(f"{got}, need {tolerance:.0e}")
        return worst


class DistinctTexts(NamedTuple):
    """The distinct texts of pairs."""

    texts: list[str]
    sides: list[Side]
    """The side of each text: 0 for all unless the two sides differ."""
    pair_P2: NDArray[np.int64]
    """The indices of each pair's two texts."""


def distinct_texts(pairs: Pairs, *, have_sides: bool = False) -> DistinctTexts:
    """Return the distinct texts of the pairs; where they ``have_sides``, the same text on both sides counts twice."""
    first: Side = 0
    second: Side = 1 if have_sides else 0
    rows: dict[tuple[str, Side], int] = {}
    for a, b in pairs:
        rows.setdefault((a, first), len(rows))
        rows.setdefault((b, second), len(rows))
    pair_P2 = np.array([(rows[a, first], rows[b, second]) for a, b in pairs], dtype=np.int64).reshape(-1, 2)
    return DistinctTexts([text for text, _ in rows], [side for _, side in rows], pair_P2)


def load(
    path: str | Path,
    *,
    device: Device = "auto",
    precision: Precision = "auto",
    runtime: Runtime | None = None,
    verify_key: str | Path | None = None,
) -> Scorer:
    """Return the bundle at ``path``, verified and ready to score: it reproduces its golden pairs.

    ``auto`` prefers a provider and precision under which the bundle was evaluated; ``runtime`` replaces the choice.
    ``verify_key`` is a file with the public key by whose private key the bundle must be signed.

    Raises:
        BundleError: the bundle is damaged, of an unknown version, not signed as it must be, or gives other scores than
            its golden ones.
        InputError: this machine does not have the device or the precision, or the key cannot be used.
    """
    bundle = read_bundle(Path(path))
    # Before ONNX Runtime and the tokenizer, which are native code, see what somebody else may have written.
    require_signature(bundle, verify_key)
    runtime = runtime or choose_runtime(device, precision, evaluated=evaluated_runtimes(bundle))
    scorer = Scorer(bundle, runtime)
    scorer.check_golden()
    return scorer


def evaluated_runtimes(bundle: Bundle) -> list[Runtime]:
    """Return the different runtimes under which this very bundle was evaluated; in int8, its last verdict is a pass."""
    reports = [report for report in stored_evaluations(bundle) if report.bundle.digest == bundle.manifest.digest]
    runtimes = dict.fromkeys(Runtime(report.bundle.provider, report.bundle.precision) for report in reports)
    # The latest report is the last one.
    verdict = {report.bundle.precision: report.verdict for report in reports if report.verdict is not None}
    return [runtime for runtime in runtimes if runtime.precision != "int8" or verdict.get("int8") == "pass"]


def unscored_pairs(members: Iterable[str]) -> tuple[GoldenPair, ...]:
    """Return the golden pairs with scores of zero, for the manifest by which they are scored."""
    scores = dict.fromkeys(members, 0.0)
    return tuple(GoldenPair(text_a=a, text_b=b, scores=scores) for a, b in GOLDEN_PAIRS)


def golden_pairs(scorer: Scorer) -> tuple[GoldenPair, ...]:
    """Return the golden pairs with the scores of each member, for a manifest."""
    scores = scorer.score_members(GOLDEN_PAIRS).members
    return tuple(
        GoldenPair(text_a=a, text_b=b, scores={name: float(score_P[i]) for name, score_P in scores.items()})
        for i, (a, b) in enumerate(GOLDEN_PAIRS)
    )


def require_finite(score_P: NDArray[np.float32], runtime: Runtime) -> None:
    """Refuse, by an `InputError`, scores that are not finite, for example after an overflow in fp16."""
    if not np.isfinite(score_P).all():
        raise InputError(f"{runtime}: {int((~np.isfinite(score_P)).sum())} scores are not finite, try --precision fp32")
