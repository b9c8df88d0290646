"""Responses of a server, and the results that a caller gets from them.

Shape suffix: P = pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of the work of a call, summed over its requests."""

    pairs: int
    texts: int
    """Distinct texts of each request."""
    tokens: int
    """Tokens of those texts, summed over the members."""
    truncated: int
    """Texts that exceed the maximum length of some member."""
    unknown_tokens: int = 0
    """Tokens that stand for what a tokenizer does not know; 0 from a server older than this count."""


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """Results for the pairs of a call in their order, all by one bundle."""

    scores: NDArray[np.float32]
    """Shape ``(P,)``, in [-1, 1]."""
    members: Mapping[str, NDArray[np.float32]] | None
    """Scores of each member by its name, shape ``(P,)``; None if they were not asked for."""
    probabilities: NDArray[np.float32] | None
    """Probability that each pair is positive, shape ``(P,)``; None if the bundle is not calibrated."""
    usage: Usage
    bundle: str
    """``name@sha256:digest`` of the bundle."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Received(BaseModel):
    """Content of a response; unknown fields are ignored, because a newer server may send more."""

    model_config = ConfigDict(allow_inf_nan=False)


class Limits(Received):
    """Limits of one request."""

    max_pairs: Annotated[int, Field(ge=1)]
    max_body_bytes: int
    max_tokens: int | None = None


class _Member(Received):
    name: str


class Served(Received):
    """The served bundle and the limits of a request."""

    name: str
    digest: str
    members: list[_Member]
    calibration: Any
    limits: Limits

    def nothing(self, *, members: bool) -> Similarity:
        """Return the result for no pairs, which a server refuses as a request."""
        empty = np.empty(0, dtype=np.float32)
        return Similarity(
            scores=empty,
            members={member.name: empty for member in self.members} if members else None,
            probabilities=empty if self.calibration else None,
            usage=Usage(0, 0, 0, 0),
            bundle=f"{self.name}@sha256:{self.digest}",
        )


class _Scores(Received):
    scores: list[float]
    members: dict[str, list[float]] | None = None
    probabilities: list[float] | None = None
    usage: Usage
    bundle: str


class Problem(Received):
    """The error of a response without scores."""

    type: str
    message: str
    param: str | None = None


class _ErrorBody(Received):
    error: Problem


Body = TypeVar("Body", bound=BaseModel)


def read(answer: Answer, body: type[Body]) -> Body:
    """Return the content of a response, or raise a `ValueError` that quotes nothing of it if it is no `body`."""
    try:
        return body.model_validate_json(answer.content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None


def read_similarity(answer: Answer, num_pairs: int, *, members: bool) -> Similarity:
    """Return the scores from a response, or raise a `ValueError` as `read` does, or if their number is wrong."""
    body = read(answer, _Scores)
    if members and body.members is None:
        raise ValueError("no scores of the members")
    for scores in (body.scores, body.probabilities, *(body.members or {}).values()):
        if scores is not None and len(scores) != num_pairs:
            raise ValueError(f"{len(scores)} scores for {num_pairs} pairs")
    return Similarity(
        scores=np.array(body.scores, np.float32),
        members={name: np.array(of, np.float32) for name, of in (body.members or {}).items()} if members else None,
        probabilities=None if body.probabilities is None else np.array(body.probabilities, np.float32),
        usage=body.usage,
        bundle=body.bundle,
    )


def read_problem(answer: Answer) -> Problem:
    """Return the error of a response; if it is not from a Simile server, its status in words."""
    try:
        problem = _ErrorBody.model_validate_json(answer.content).error
    except ValidationError:
        return Problem(type=status_words(answer.status), message="the response is not from a Simile server")
    return Problem(**{name: " ".join(text.split()) for name, text in problem if text is not None})


def status_words(status: int) -> str:
    """Return the HTTP status as the type of an error, such as ``not_found``."""
    phrase = next((known.phrase for known in HTTPStatus if known == status), "unknown status")
    return phrase.lower().replace(" ", "_")


def join(parts: Sequence[Similarity]) -> Similarity:
    """Return the results of one call from those of its requests, which are all by one bundle."""
    first = parts[0]
    probabilities = [part.probabilities for part in parts if part.probabilities is not None]
    return Similarity(
        scores=np.concatenate([part.scores for part in parts]),
        members=None
        if first.members is None
        else {name: np.concatenate([part.members[name] for part in parts if part.members]) for name in first.members},
        probabilities=np.concatenate(probabilities) if probabilities else None,
        usage=Usage(*map(sum, zip(*(astuple(part.usage) for part in parts), strict=True))),
        bundle=first.bundle,
    )
