"""The errors of a request, and the response to each.

The body of every error response is ``{"error": {"type", "message", "param", "request_id"}}``, including those to
unknown paths (404), wrong methods (405) and defects of the service (500). Paths of the Open Inference Protocol differ:
there ``error`` is a text, as the protocol says, and the other fields stand beside it.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from serving.logs import REQUEST_ID
from serving.schemas import OBJECT_FORM, PAIR_FORMS, TEXT_FORMS, ErrorBody, ErrorDetail, OpenInferenceErrorBody

_MAX_PLACE_CHARACTERS = 200
"""Length limit of ``param``: the client chooses the name of an unknown field, and its length."""
_FORMS = (*PAIR_FORMS, *TEXT_FORMS, OBJECT_FORM)
"""What pydantic puts into the location of an error besides the place in the body."""
_CLOSE = {"connection": "close"}
"""Sent where the rest of the body is not read, so that the connection cannot carry another request."""


class ServingError(Exception):
    """The root of the errors that are reported to clients; each has an HTTP status, a type, and perhaps headers.

    The message says what was got and what is needed; ``param`` is the place in the request.
    """

    status: int
    type: str
    headers: Mapping[str, str]

    def __init_subclass__(cls, status: int, error_type: str, headers: Mapping[str, str] | None = None) -> None:
        cls.status, cls.type, cls.headers = status, error_type, headers or {}

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class MalformedError(ServingError, status=400, error_type="malformed"):
    """The body is not JSON in UTF-8."""


class UnauthorizedError(ServingError, status=401, error_type="unauthorized", headers={"www-authenticate": "Bearer"}):
    """The request has none of the service's API keys."""


class UnknownModelError(ServingError, status=404, error_type="unknown_model"):
    """The path names a model, or a version of it, that is not the served bundle."""


class BodyTooSlowError(ServingError, status=408, error_type="body_too_slow", headers=_CLOSE):
    """The body did not arrive within the time limit."""


class BodyTooLargeError(ServingError, status=413, error_type="body_too_large", headers=_CLOSE):
    """The body has more bytes than the limit."""


class WrongHostError(ServingError, status=421, error_type="wrong_host", headers=_CLOSE):
    """The header Host names another host than the service's."""


class InvalidRequestError(ServingError, status=422, error_type="invalid_request"):
    """The body is JSON, but has another shape or exceeds a limit."""


class OverloadedError(ServingError, status=429, error_type="overloaded"):
    """Too much work is waiting already; the request would be accepted in about ``retry_after_s``."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.headers = {"retry-after": str(retry_after_s)}


class ClientGoneError(ServingError, status=499, error_type="client_gone"):
    """The client closed the connection before the response; seen only in the log and the metrics."""


class NotFiniteError(ServingError, status=500, error_type="not_finite"):
    """A score is NaN or infinite, for example after an overflow in fp16."""


class NotReadyError(ServingError, status=503, error_type="not_ready", headers={"retry-after": "1"}):
    """The bundle is still loading, the process is shutting down, or the engine makes no progress."""


class DeadlineError(ServingError, status=504, error_type="deadline"):
    """The request was not answered within the time limit."""


def error_response(error: ServingError) -> JSONResponse:
    """Return the response to a request that failed with ``error``."""
    return _respond(error.status, error.type, str(error), error.param, error.headers)


def internal_error_response() -> JSONResponse:
    """Return the response to a request that met a defect of the service; it reveals no details."""
    return _respond(500, "internal", "internal error")


def add_error_handlers(app: FastAPI) -> None:
    """Give every error that the application raises the same response body."""

    @app.exception_handler(ServingError)
    async def handle_serving_error(_request: Request, error: ServingError) -> JSONResponse:
        _forget_frames(error)
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def handle_validation_error(_request: Request, error: RequestValidationError) -> JSONResponse:
        _forget_frames(error)
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return error_response(MalformedError(f"the body is not valid JSON ({first['ctx']['error']})"))
        if first["type"] in ("model_attributes_type", "missing") and _place(first["loc"]) is None:
            return error_response(InvalidRequestError("need a JSON object, sent as content-type application/json"))
        return error_response(InvalidRequestError(first["msg"], _place(first["loc"])))

    @app.exception_handler(HTTPException)
    async def handle_http_exception(_request: Request, error: HTTPException) -> JSONResponse:
        _forget_frames(error)
        if error.status_code == HTTPStatus.BAD_REQUEST:
            # FastAPI raises this for a body that it cannot decode.
            return error_response(MalformedError("the body is not JSON in UTF-8"))
        phrase = HTTPStatus(error.status_code).phrase
        return _respond(error.status_code, phrase.lower().replace(" ", "_"), phrase, headers=error.headers)


def _forget_frames(error: Exception) -> None:
    """Free the frames that raised the error, whose variables hold the request's body.

    A frame that also holds the error is garbage that refers to itself: hundreds of MB until the next collection.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None


def _respond(
    status: int, error_type: str, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    detail = ErrorDetail(type=error_type, message=message, param=param, request_id=REQUEST_ID.get() or None)
    return _ErrorResponse(detail, status, headers)


class _ErrorResponse(JSONResponse):
    """An error in the form that clients of the request's path read.

    Triton's client puts ``error`` into its exception as it is: one that is an object makes ``str(exception)`` fail.
    """

    def __init__(self, detail: ErrorDetail, status: int, headers: Mapping[str, str] | None) -> None:
        super().__init__(ErrorBody(error=detail).model_dump(), status, headers)
        self._detail, self._given_headers = detail, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the error."""
        path = scope["path"]
        # Cohere's second version has its reranking below /v2 as well.
        if path == "/v2" or (path.startswith("/v2/") and path != "/v2/rerank"):
            detail = self._detail
            place = f"{detail.param}: " if detail.param else ""
            body = OpenInferenceErrorBody(error=place + detail.message, **detail.model_dump(exclude={"message"}))
            await JSONResponse(body.model_dump(), self.status_code, self._given_headers)(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _place(location: Sequence[str | int]) -> str | None:
    """Return pydantic's location as a path into the body, such as ``pairs[3].text_a``; None means the whole body."""
    parts = [part for part in location[1:] if part not in _FORMS]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return path.removeprefix(".")[:_MAX_PLACE_CHARACTERS] or None
