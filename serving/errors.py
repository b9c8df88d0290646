"""The errors of a request, and the response to each.

ServingError
├── MalformedError       400  not JSON, or not UTF-8
├── UnauthorizedError    401  no API key, or a wrong one
├── BodyTooSlowError     408  did not arrive in time
├── BodyTooLargeError    413  exceeds the limit of bytes
├── InvalidRequestError  422  has another shape, or exceeds a limit
├── OverloadedError      429  the admission budget is spent
├── ClientGoneError      499  no client is left to answer; seen only in log and metrics
├── NotFiniteError       500  a score is NaN or infinite
├── NotReadyError        503  loading or draining
└── DeadlineError        504  not answered in time

The body of every error response is ``{"error": {"type", "message", "param"}}``, including those to unknown paths (404),
wrong methods (405) and defects of the service (500).
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serving.schemas import PAIR_FORMS, TEXT_FORMS, ErrorBody, ErrorDetail

_MAX_PLACE_CHARACTERS = 200
"""Length limit of ``param``: the client chooses the name of an unknown field, and its length."""


class ServingError(Exception):
    """The root of the errors that are reported to clients.

    Args:
        message: one sentence that says what was got and what is needed.
        param: the place in the request, such as ``pairs[3].text_a``.
    """

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class MalformedError(ServingError):
    """The body is not JSON in UTF-8."""


class UnauthorizedError(ServingError):
    """The request has none of the service's API keys."""


class BodyTooSlowError(ServingError):
    """The body did not arrive within the time limit."""


class BodyTooLargeError(ServingError):
    """The body has more bytes than the limit."""


class InvalidRequestError(ServingError):
    """The body is JSON, but has another shape or exceeds a limit."""


class OverloadedError(ServingError):
    """Too much work is waiting already.

    Args:
        message: one sentence.
        retry_after_s: estimated seconds until the request would be accepted.
    """

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ClientGoneError(ServingError):
    """The client closed the connection before the response."""


class NotFiniteError(ServingError):
    """A score is NaN or infinite, for example after an overflow in fp16."""


class NotReadyError(ServingError):
    """The bundle is still loading, or the process is shutting down."""


class DeadlineError(ServingError):
    """The request was not answered within the time limit."""


ANSWERS: Mapping[type[ServingError], tuple[int, str]] = {
    MalformedError: (400, "malformed"),
    UnauthorizedError: (401, "unauthorized"),
    BodyTooSlowError: (408, "body_too_slow"),
    BodyTooLargeError: (413, "body_too_large"),
    InvalidRequestError: (422, "invalid_request"),
    OverloadedError: (429, "overloaded"),
    ClientGoneError: (499, "client_gone"),
    NotFiniteError: (500, "not_finite"),
    NotReadyError: (503, "not_ready"),
    DeadlineError: (504, "deadline"),
}
"""HTTP status and error type of each error."""

_HEADERS: Mapping[type[ServingError], dict[str, str]] = {
    UnauthorizedError: {"www-authenticate": "Bearer"},
    # The rest of the body is not read, so the connection cannot carry another request.
    BodyTooSlowError: {"connection": "close"},
    BodyTooLargeError: {"connection": "close"},
    NotReadyError: {"retry-after": "1"},
}


def error_response(error: ServingError) -> JSONResponse:
    """Return the response to a request that failed with ``error``."""
    status, error_type = ANSWERS[type(error)]
    headers = dict(_HEADERS.get(type(error), {}))
    if isinstance(error, OverloadedError):
        headers["retry-after"] = str(error.retry_after_s)
    return _respond(status, ErrorDetail(type=error_type, message=str(error), param=error.param), headers)


def internal_error_response() -> JSONResponse:
    """Return the response to a request that met a defect of the service; it reveals no details."""
    return _respond(500, ErrorDetail(type="internal", message="internal error", param=None))


def add_error_handlers(app: FastAPI) -> None:
    """Give every error that the application raises the same response body."""
    app.add_exception_handler(ServingError, _handle_serving_error)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)


async def _handle_serving_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServingError)
    return error_response(error)


async def _handle_validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return error_response(MalformedError(f"the body is not valid JSON ({first['ctx']['error']})"))
    if first["type"] in ("model_attributes_type", "missing") and len(first["loc"]) == 1:
        return error_response(InvalidRequestError("need a JSON object, sent as content-type application/json"))
    return error_response(InvalidRequestError(first["msg"], _place(first["loc"])))


async def _handle_http_exception(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.BAD_REQUEST:
        # FastAPI raises this for a body that it cannot decode.
        return error_response(MalformedError("the body is not JSON in UTF-8"))
    phrase = HTTPStatus(error.status_code).phrase
    detail = ErrorDetail(type=phrase.lower().replace(" ", "_"), message=phrase, param=None)
    return _respond(error.status_code, detail, error.headers)


def _respond(status: int, detail: ErrorDetail, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(ErrorBody(error=detail).model_dump(), status, headers)


def _place(location: Sequence[str | int]) -> str | None:
    """Return pydantic's location as a path into the body, such as ``pairs[3].text_a``; None means the whole body."""
    path = ""
    for part in location[1:]:
        if part in PAIR_FORMS + TEXT_FORMS:
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")[:_MAX_PLACE_CHARACTERS] or None
