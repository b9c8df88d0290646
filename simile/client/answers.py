"""What a server answers, and what a caller gets of it.

Shape suffix: P = pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call took, summed over its requests."""

    pairs: int
    texts: int
    """Different texts of each request."""
    tokens: int
    """Tokens of those texts, summed over the members."""
    truncated: int
    """Those texts that were longer than some member reads."""


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """What a server tells of some pairs, in their order; all of it by one bundle."""

    scores: NDArray[np.float32]
    """Shape ``(P,)``, in [-1, 1]."""
    members: Mapping[str, NDArray[np.float32]] | None
    """Each member's scores by its name, shape ``(P,)``; None where they were not asked for."""
    probabilities: NDArray[np.float32] | None
    """That each pair is positive, shape ``(P,)``; None where the bundle is not calibrated."""
    usage: Usage
    bundle: str
    """``name@sha256:digest`` of what made the scores."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; its headers' names are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class _Received(BaseModel):
    # Fields that are not named here are let through: a newer server may send more.
    model_config = ConfigDict(allow_inf_nan=False)


class Limits(_Received):
    """What one request may hold."""

    max_pairs: Annotated[int, Field(ge=1)]
    max_body_bytes: int


class _Member(_Received):
    name: str


class Served(_Received):
    """The bundle that is served, and within which limits."""

    name: str
    digest: str
    members: list[_Member]
    calibration: Any
    limits: Limits

    def nothing(self, *, members: bool) -> Similarity:
        """Return what the server would tell of no pairs: it takes no such request."""
        empty = np.empty(0, dtype=np.float32)
        return Similarity(
            scores=empty,
            members={member.name: empty for member in self.members} if members else None,
            probabilities=empty if self.calibration else None,
            usage=Usage(pairs=0, texts=0, tokens=0, truncated=0),
            bundle=f"{self.name}@sha256:{self.digest}",
        )


class _Scores(_Received):
    scores: list[float]
    members: dict[str, list[float]] | None = None
    probabilities: list[float] | None = None
    usage: Usage
    bundle: str


class Problem(_Received):
    """Why there are no scores."""

    type: str
    message: str
    param: str | None = None


class _ErrorBody(_Received):
    error: Problem


_Body = TypeVar("_Body", bound=_Received)


def read_served(answer: Answer) -> Served:
    """Return the bundle and the limits of an answer.

    Raises:
        ValueError: it is not what a server sends; the message repeats nothing of it.
    """
    return _read(answer, Served)


def read_similarity(answer: Answer, num_pairs: int, *, members: bool) -> Similarity:
    """Return the scores of an answer.

    Raises:
        ValueError: it is not what a server sends, or not as many scores as pairs; the message repeats nothing of it.
    """
    found = _read(answer, _Scores)
    if members and found.members is None:
        raise ValueError("no scores of the members")
    for scores in (found.scores, found.probabilities, *(found.members or {}).values()):
        if scores is not None and len(scores) != num_pairs:
            raise ValueError(f"{len(scores)} scores of {num_pairs} pairs")
    return Similarity(
        scores=_array(found.scores),
        members={name: _array(scores) for name, scores in (found.members or {}).items()} if members else None,
        probabilities=None if found.probabilities is None else _array(found.probabilities),
        usage=found.usage,
        bundle=found.bundle,
    )


def read_problem(answer: Answer) -> Problem:
    """Return what an answer that is no success says; where no Simile server wrote it, its status in words."""
    try:
        found = _ErrorBody.model_validate_json(answer.content).error
    except ValidationError:
        phrase = _PHRASES.get(answer.status, "unknown status")
        return Problem(type=phrase.lower().replace(" ", "_"), message="the answer is not that of a Simile server")
    return Problem(**{name: " ".join(text.split()) for name, text in found if text is not None})


def join(parts: Sequence[Similarity]) -> Similarity:
    """Return the parts of one call, all by one bundle, as a whole."""
    first = parts[0]
    probabilities = [part.probabilities for part in parts if part.probabilities is not None]
    return Similarity(
        scores=np.concatenate([part.scores for part in parts]),
        members=None
        if first.members is None
        else {name: np.concatenate([part.members[name] for part in parts if part.members]) for name in first.members},
        probabilities=np.concatenate(probabilities) if probabilities else None,
        usage=Usage(
            pairs=sum(part.usage.pairs for part in parts),
            texts=sum(part.usage.texts for part in parts),
            tokens=sum(part.usage.tokens for part in parts),
            truncated=sum(part.usage.truncated for part in parts),
        ),
        bundle=first.bundle,
    )


def _read(answer: Answer, body: type[_Body]) -> _Body:
    try:
        return body.model_validate_json(answer.content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None


def _array(scores: list[float]) -> NDArray[np.float32]:
    return np.array(scores, dtype=np.float32)
