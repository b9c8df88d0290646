"""Errors that a user can meet, and the exit code of each.

SimileError
├── InputError     2   bad input or usage
│   └── BundleError    a bundle is incomplete, of an unknown version, or differs from its manifest
├── ServerError    1   the server failed, or the response is not from a Simile server
│   ├── ServerRefusedError       2   the server refuses this request: its texts, its address, its key
│   └── ServerUnavailableError  75   the server is unreachable, not ready, overloaded or too slow
└── StoppedError  75   the work stopped early and can be resumed: SIGTERM, a full disk

Exit code 3 (the gate failed) is a verdict, not an error. Any other exception is a bug in Simile and exits with 1.
"""


class SimileError(Exception):
    """Base of all errors whose message is written for a user."""

    exit_code = 1


class InputError(SimileError):
    """Bad input or usage; the message is one line that says what was got, what is needed and where."""

    exit_code = 2


class BundleError(InputError):
    """A bundle that is damaged, incomplete, of an unknown version, or that has files it does not list."""


class ServerError(SimileError):
    """The server failed, or the response is not from a Simile server.

    Args:
        message: one line with the address and the response.
        status: the HTTP status; None without a response.
        kind: the type of the error as the server names it, such as ``invalid_request``.
        param: the place in the request, such as ``pairs[3].text_a``, with the index in the caller's list.
    """

    def __init__(
        self, message: str, *, status: int | None = None, kind: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.type, self.param = status, kind, param


class ServerRefusedError(ServerError):
    """The server refuses this request, and will refuse it again."""

    exit_code = 2


class ServerUnavailableError(ServerError):
    """The server cannot be reached or cannot take the request now; the same request may succeed later."""

    exit_code = 75


class StoppedError(SimileError):
    """The work stopped before its end; the same command resumes it."""

    exit_code = 75
