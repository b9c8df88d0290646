"""Routes of the Open Inference Protocol (version 2), which clients of KServe and Triton speak.

The served bundle is the only model, and the beginning of its digest is the only version. The pairs are two tensors of
texts, ``text_a`` and ``text_b``; the answer is the tensor ``score``, and ``probability`` if the bundle is calibrated.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from io import BytesIO
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, Field, StrictBool, TypeAdapter, WithJsonSchema

from serving.errors import InvalidRequestError, UnknownModelError
from serving.routes import ERRORS, TheService, check_limits, documented, score_pairs
from serving.schemas import Many, OpenInferenceErrorBody, Text, example
from serving.settings import Settings
from serving.tensors import JSON_SIZE, texts_of
from simile.artifacts import Bundle
from simile.scoring import Pairs, probability
from simile.version import __version__

_VERSION_CHARACTERS = 12
_MAX_DIMENSION = 100_000
_SIDES = ("text_a", "text_b")
_TEXT = TypeAdapter(Text).json_schema()


def _unnested(value: Any) -> Any:
    """Return the text of a row of one text, as nested data of the shape [N, 1] has it."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


Element = Annotated[
    Text,
    BeforeValidator(_unnested),
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 1}]}),
]


class InputParameters(BaseModel):
    """Where the texts of an input are, if not in its data."""

    binary_data_size: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        None, description="bytes of the tensor after the JSON part of the body"
    )
    shared_memory_region: None = Field(None, description="not supported: need data or binary_data_size")


class InputTensor(BaseModel):
    """The texts of one side of the pairs."""

    name: Literal["text_a", "text_b"]
    shape: Annotated[list[Annotated[int, Field(ge=0, le=_MAX_DIMENSION, strict=True)]], Field(max_length=2)] = Field(
        description="[N] or [N, 1]"
    )
    datatype: Literal["BYTES"]
    parameters: InputParameters | None = None
    data: Many[Element] | None = Field(None, description="the texts, flat or nested, unless they are binary")


class OutputParameters(BaseModel):
    """The form of one output."""

    binary_data: StrictBool | None = Field(None, description="whether its numbers follow the JSON part of the answer")
    classification: None = Field(None, description="not supported: scores have no classes")
    shared_memory_region: None = Field(None, description="not supported")


class RequestedOutput(BaseModel):
    """One output to return."""

    name: Literal["score", "probability"]
    parameters: OutputParameters | None = None


class InferParameters(BaseModel):
    """The form of all outputs."""

    binary_data_output: StrictBool = Field(False, description="binary_data of the outputs that do not say it")


class InferRequest(BaseModel):
    """The request of the Open Inference Protocol."""

    model_config = example(
        inputs=[
            {"name": "text_a", "shape": [2], "datatype": "BYTES", "data": ["no signal", "late"]},
            {"name": "text_b", "shape": [2], "datatype": "BYTES", "data": ["My phone shows no bars.", "no signal"]},
        ],
        outputs=[{"name": "score"}],
    )

    id: str | None = Field(None, description="returned as it is")
    inputs: Annotated[list[InputTensor], Field(min_length=2, max_length=2)] = Field(
        description="text_a and text_b, with the same number of texts"
    )
    outputs: Annotated[list[RequestedOutput], Field(max_length=2)] | None = Field(
        None, description="the outputs to return (default: all that the bundle has)"
    )
    parameters: InferParameters | None = None


class BinarySize(BaseModel):
    """The size of a tensor that follows the JSON part."""

    binary_data_size: int


class OutputTensor(BaseModel):
    """One number for each pair."""

    name: str
    shape: list[int] = Field(description="that of text_a")
    datatype: Literal["FP32"]
    parameters: BinarySize | None = None
    data: list[float] | None = Field(None, description="the numbers, unless they are binary")


class InferResponse(BaseModel):
    """The outputs, in the order of the request."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class ServerResponse(BaseModel):
    """The service and its extensions of the protocol."""

    name: Literal["simile"]
    version: str
    extensions: list[str]


class LiveResponse(BaseModel):
    """Whether the process is alive."""

    live: bool


class ReadyResponse(BaseModel):
    """Whether requests should be sent."""

    ready: bool


class ModelReadyResponse(ReadyResponse):
    """Whether requests to the model should be sent."""

    name: str


class TensorMetadata(BaseModel):
    """The form of one tensor."""

    name: str
    datatype: Literal["BYTES", "FP32"]
    shape: list[int] = Field(description="-1: any number of pairs, up to the service's limit")


class ModelResponse(BaseModel):
    """The served bundle and its tensors."""

    name: str
    versions: list[str] = Field(description="the beginning of the bundle's digest")
    platform: Literal["simile_bundle"]
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


def _version(digest: str) -> str:
    return digest[:_VERSION_CHARACTERS]


def _name(bundle: Bundle, settings: Settings) -> str:
    return settings.model_name or bundle.manifest.name


def _require_served(bundle: Bundle, settings: Settings, name: str, version: str | None = None) -> None:
    """Refuse the name and the version of a path, by an `UnknownModelError`, if they are not the served ones."""
    if name != (need := _name(bundle, settings)):
        raise UnknownModelError(f"got the model {name[:80]!r}, need {need!r}")
    if version is not None and version != (need := _version(bundle.manifest.digest)):
        raise UnknownModelError(f"got version {version[:80]!r} of {name}, need {need!r}")


async def _model_of_path(name: str, service: TheService) -> None:
    _require_served(service.engine.scorer.bundle, service.settings, name)


async def _version_of_path(name: str, version: str, service: TheService) -> None:
    _require_served(service.engine.scorer.bundle, service.settings, name, version)


router = APIRouter()
probes = APIRouter()
"""Routes that need no API key."""
_MODEL = "/v2/models/{name}"
# FastAPI documents 422 for every route with a parameter, although only infer answers it.
_RESPONSES = documented(404, 422, 503, body=OpenInferenceErrorBody)
_named = APIRouter(prefix=_MODEL, dependencies=[Depends(_model_of_path)], responses=_RESPONSES)
_versioned = APIRouter(
    prefix=f"{_MODEL}/versions/{{version}}", dependencies=[Depends(_version_of_path)], responses=_RESPONSES
)


@probes.get("/v2/health/live", responses=documented(503, body=OpenInferenceErrorBody))
async def live(service: TheService) -> LiveResponse:
    """Return whether the process is alive and makes progress, as /healthz does."""
    service.require_alive()
    return LiveResponse(live=True)


@probes.get("/v2/health/ready", responses=documented(503, body=OpenInferenceErrorBody))
async def ready(service: TheService) -> ReadyResponse:
    """Return whether requests should be sent, as /readyz does."""
    service.require_ready()
    return ReadyResponse(ready=True)


@router.get("/v2")
async def server() -> ServerResponse:
    """Describe the service, as the Open Inference Protocol does."""
    return ServerResponse(name="simile", version=__version__, extensions=["binary_tensor_data"])


@_named.get("")
@_versioned.get("")
async def model(service: TheService) -> ModelResponse:
    """Describe the served bundle and its tensors, as the Open Inference Protocol does."""
    bundle = service.engine.scorer.bundle
    manifest = bundle.manifest
    outputs = ["score", *(["probability"] if manifest.calibration else [])]
    return ModelResponse(
        name=_name(bundle, service.settings),
        versions=[_version(manifest.digest)],
        platform="simile_bundle",
        inputs=[TensorMetadata(name=name, datatype="BYTES", shape=[-1]) for name in _SIDES],
        outputs=[TensorMetadata(name=name, datatype="FP32", shape=[-1]) for name in outputs],
    )


@_named.get("/ready")
@_versioned.get("/ready")
async def model_ready(name: str, service: TheService) -> ModelReadyResponse:
    """Return whether requests should be sent, as /readyz does."""
    service.require_ready()
    return ModelReadyResponse(name=name, ready=True)


_BINARY = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
_INFER: dict[str, Any] = {
    "response_model": InferResponse,
    "response_model_exclude_none": True,
    "responses": documented(*map(int, ERRORS), body=OpenInferenceErrorBody) | {200: _BINARY},
}


@_named.post("/infer", **_INFER)
@_versioned.post("/infer", **_INFER)
async def infer(body: InferRequest, request: Request, service: TheService) -> InferResponse | Response:
    """Score pairs of texts, as the Open Inference Protocol does.

    The tensors of the request and of the answer may be binary, as Triton's client sends and requests them by default.
    """
    pairs = _pairs(body, getattr(request.state, "tensors", b""), service.settings)
    engine, scored = await score_pairs(request, service, pairs)
    bundle = engine.scorer.bundle
    # A reload may have replaced the bundle for which the path was checked.
    _require_served(bundle, service.settings, **request.path_params)
    values = {"score": scored.score_P}
    if calibration := bundle.manifest.calibration:
        values["probability"] = probability(calibration, scored.score_P, prior=service.settings.prior)
    return _answer(body, bundle, service.settings, values)


def _pairs(body: InferRequest, tensors: bytes, settings: Settings) -> Pairs:
    """Return the pairs of a request; ``tensors`` is what follows its JSON part."""
    if {tensor.name for tensor in body.inputs} != set(_SIDES):
        raise InvalidRequestError(f"got {body.inputs[0].name} twice, need text_a and text_b", "inputs")
    sizes = [tensor.parameters.binary_data_size if tensor.parameters else None for tensor in body.inputs]
    if (need := sum(size or 0 for size in sizes)) != len(tensors):
        got = f"got {len(tensors)} bytes after the JSON part (header Inference-Header-Content-Length)"
        raise InvalidRequestError(f"{got}, need {need}, the sum of binary_data_size", "inputs")
    sides: dict[str, list[str]] = {}
    rest = BytesIO(tensors)
    for i, (tensor, size) in enumerate(zip(body.inputs, sizes, strict=True)):
        place = f"inputs[{i}].data"
        if (size is None) == (tensor.data is None):
            raise InvalidRequestError("need either data or parameters.binary_data_size", place)
        texts = tensor.data or texts_of(rest.read(size or 0), place, settings.max_pairs)
        check_limits(len(texts), place, {f"{place}[{{}}]": texts}, settings)
        if tensor.shape not in ([len(texts)], [len(texts), 1]):
            needed = f"need [{len(texts)}] or [{len(texts)}, 1]"
            raise InvalidRequestError(
                f"got shape {tensor.shape} with {len(texts)} texts, {needed}", f"inputs[{i}].shape"
            )
        sides[tensor.name] = texts
    first, second = (sides[name] for name in _SIDES)
    if len(first) != len(second):
        got = f"got {len(first)} texts in text_a and {len(second)} in text_b"
        raise InvalidRequestError(f"{got}, need as many on both sides", "inputs")
    return list(zip(first, second, strict=True))


def _answer(
    body: InferRequest, bundle: Bundle, settings: Settings, values: dict[str, NDArray[np.floating[Any]]]
) -> InferResponse | Response:
    """Return the requested outputs, with a binary part if one of them is requested as such."""
    (shape,) = (tensor.shape for tensor in body.inputs if tensor.name == "text_a")
    is_binary_by_default = body.parameters is not None and body.parameters.binary_data_output
    outputs, tensors = [], b""
    for i, requested in enumerate(body.outputs or [RequestedOutput(name=name) for name in values]):
        if requested.name not in values:
            got = f"got {requested.name}, need score only: this bundle has no calibration"
            raise InvalidRequestError(got, f"outputs[{i}].name")
        value_P = values[requested.name].astype("<f4")
        output = OutputTensor(name=requested.name, shape=shape, datatype="FP32")
        is_binary = requested.parameters.binary_data if requested.parameters else None
        if is_binary_by_default if is_binary is None else is_binary:
            tensors += value_P.tobytes()
            output.parameters = BinarySize(binary_data_size=value_P.nbytes)
        else:
            output.data = value_P.tolist()
        outputs.append(output)
    answer = InferResponse(
        model_name=_name(bundle, settings), model_version=_version(bundle.manifest.digest), id=body.id, outputs=outputs
    )
    if not tensors:
        return answer
    json_part = answer.model_dump_json(exclude_none=True).encode()
    headers = {JSON_SIZE: str(len(json_part))}
    return Response(json_part + tensors, headers=headers, media_type="application/octet-stream")


router.routes.extend([*_named.routes, *_versioned.routes])
