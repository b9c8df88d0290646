"""Request and response bodies."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, StrictBool, Tag, model_validator
from pydantic_core import PydanticCustomError

from simile.artifacts import Calibration, Combine, Thresholds
from simile.text_input import NEED_PAIR, text_fault

_LIST, _OBJECT = PAIR_FORMS = ("[text_a, text_b]", "{text_a, text_b}")
"""The two forms of a pair; pydantic puts the one it chose into the location of an error."""


def _check_text(text: Any) -> Any:
    # JSON can express half of a surrogate pair (a lone escape such as \ud800), but no tokenizer can read it.
    if fault := text_fault(text):
        raise PydanticCustomError("no_text", fault)
    return text


Text = Annotated[str, BeforeValidator(_check_text), Field(json_schema_extra={"minLength": 1, "pattern": r"\S"})]

_ONE, _SEVERAL = TEXT_FORMS = ("a text", "several texts")
"""The two forms of a list of texts; pydantic puts the one it chose into the location of an error."""
OBJECT_FORM = "an object"
"""The form of a document that is an object."""

# A body can contain a million errors, and listing them all takes seconds; the first one is enough.
_Element = TypeVar("_Element")
_MAX_ELEMENTS = 100_000
"""More than any useful ``max_pairs``: a longer list is refused before its elements are validated."""
Many = Annotated[list[_Element], Field(fail_fast=True, max_length=_MAX_ELEMENTS, json_schema_extra={"minItems": 1})]
_MAX_FIELDS = 32


def example(**body: Any) -> ConfigDict:
    """Return the configuration of a model whose schema shows this example."""
    return ConfigDict(json_schema_extra={"examples": [body]})


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > _MAX_FIELDS:
            context = {"got": len(value), "need": ", ".join(cls.model_fields)}
            raise PydanticCustomError("unknown_fields", "got {got} fields, need only these: {need}", context)
        return value


class TextPair(_Body):
    """Two texts to compare."""

    text_a: Text
    text_b: Text


def _form_of_pair(value: object) -> str | None:
    is_list = isinstance(value, list | tuple) and len(value) == 2
    return _LIST if is_list else _OBJECT if isinstance(value, dict | TextPair) else None


Pair = Annotated[
    Annotated[tuple[Text, Text], Tag(_LIST)] | Annotated[TextPair, Tag(_OBJECT)],
    Discriminator(
        _form_of_pair,
        custom_error_type="no_pair",
        custom_error_message=f'{NEED_PAIR}, as ["text a", "text b"] or {{"text_a": ..., "text_b": ...}}',
    ),
]


OneOrMany = Annotated[
    Annotated[Text, Tag(_ONE)] | Annotated[Many[Text], Tag(_SEVERAL)],
    Discriminator(
        lambda value: _ONE if isinstance(value, str) else _SEVERAL if isinstance(value, list) else None,
        custom_error_type="no_texts",
        custom_error_message="need a text or a list of texts",
    ),
]


class SimilarityRequest(_Body):
    """Pairs to score, or one text to score against many."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"pairs": [["My card has not arrived.", "I'm still waiting for my card."]]},
                {"pairs": [{"text_a": "How do I send this back?", "text_b": "what's the procedure for a return"}]},
                {"text": "no signal", "texts": ["My phone shows no bars.", "The parcel is late."], "members": True},
            ],
            "oneOf": [
                {"required": ["pairs"], "properties": {"pairs": {"type": "array"}}},
                {
                    "required": ["text", "texts"],
                    "properties": {"pairs": {"type": "null"}, "text": {"type": "string"}, "texts": {"type": "array"}},
                },
            ],
        }
    )

    pairs: Many[Pair] | None = Field(None, description="the pairs to score, instead of text and texts")
    text: Text | None = Field(None, description="the text to compare with each of texts")
    texts: Many[Text] | None = Field(None, description="the texts to compare with text")
    members: StrictBool = Field(False, description="also return the score of each member of the ensemble")


class Usage(BaseModel):
    """The size of a request."""

    pairs: int
    texts: int = Field(description="distinct texts among the pairs, on each side where the bundle has two prompts")
    tokens: int = Field(description="tokens of those texts, summed over the members")
    unknown_tokens: int = Field(
        description="those among them that stand for what a tokenizer does not know: texts that differ in these only "
        "look equal to its encoder"
    )
    truncated: int = Field(description="distinct texts that are longer than a member reads")


class SimilarityResponse(BaseModel):
    """The scores, in the order of the pairs."""

    model_config = example(
        scores=[0.8312],
        usage={"pairs": 1, "texts": 2, "tokens": 19, "unknown_tokens": 0, "truncated": 0},
        bundle="helpdesk@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    )

    scores: list[float] = Field(description="the score of each pair, in [-1, 1]")
    members: dict[str, list[float]] | None = Field(None, description="the scores of each member, if requested")
    probabilities: list[float] | None = Field(
        None, description="the probability that each pair is positive, if the bundle is calibrated"
    )
    usage: Usage
    bundle: str = Field(description="the bundle that computed the scores, as name@sha256:digest")


class Limits(BaseModel):
    """The limits of one request and of the queue."""

    max_body_bytes: int
    max_pairs: int
    max_characters: int
    max_waiting_tokens: int
    max_tokens: int | None = Field(
        description="tokens of a request's texts, by the measured throughput: what is computed in half of deadline_s"
    )
    long_texts: Literal["cut", "refuse"] = Field(
        description="what happens to texts of more tokens than a member's max_length"
    )
    transfer_s: float = Field(description="seconds within which the request must arrive")
    deadline_s: float = Field(description="seconds from its arrival to the response")


class ShadowSummary(BaseModel):
    """How the shadow bundle differs from the served one on the most recent pairs."""

    name: str
    digest: str
    share: float = Field(description="share of the calls that the shadow scores too, as far as it has time")
    pairs: int = Field(description="the most recent pairs that the figures are of, at most 2000")
    mean_difference: float | None = Field(description="the mean of the shadow's score minus the served one")
    rank_agreement: float | None = Field(
        description="the Spearman correlation of the two scores; null for fewer than 100 pairs"
    )
    crossing_share: float | None = Field(
        description="the share of pairs on which the two bundles decide differently, each by its threshold best_f1; "
        "null where one has none"
    )


class BundleResponse(BaseModel):
    """The served bundle, its runtime and its limits."""

    name: str
    digest: str
    members: list[Mapping[str, Any]]
    combine: Combine
    thresholds: Thresholds | None
    calibration: Calibration | None
    prior: float | None = Field(
        description="share of positives that the probabilities assume, if the bundle is calibrated"
    )
    provider: str
    precision: str
    limits: Limits
    shadow: ShadowSummary | None = Field(description="the shadow bundle (--shadow), once it is loaded")


class StatusResponse(BaseModel):
    """Whether the process is alive or ready."""

    status: Literal["alive", "ready"]


class ErrorDetail(BaseModel):
    """The reason of an error."""

    type: str
    message: str
    param: str | None = Field(description="the place in the request, such as pairs[3].text_a")
    request_id: str | None = Field(None, description="the request's x-request-id, as in the server's log")


class ErrorBody(BaseModel):
    """The body of an error response."""

    error: ErrorDetail


class OpenInferenceErrorBody(BaseModel):
    """The body of an error response to a path of the Open Inference Protocol, whose clients read a text."""

    error: str = Field(description="the place in the request, if there is one, and the message")
    type: str
    param: str | None = Field(description="the place in the request, such as inputs[0].data[3]")
    request_id: str | None = Field(None, description="the request's x-request-id, as in the server's log")
