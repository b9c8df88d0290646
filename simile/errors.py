"""The errors a person can meet, and the exit code each one ends with.

SimileError
├── InputError     2   bad input or usage: what was got, what is needed, where
│   └── BundleError    a bundle that is not whole, not known, or not what its manifest says
├── ServerError    1   a server failed, or answered what no Simile server answers
│   ├── ServerRefusedError       2   it will not take this request: the text, the address, the key
│   └── ServerUnavailableError  75   it cannot take it now: unreachable, not ready, overloaded, too slow
└── StoppedError  75   stopped but resumable: SIGTERM, a full disk

Exit code 3 (the gate said no) is a verdict, not an error; everything else is a defect of ours and exits with 1.
"""


class SimileError(Exception):
    """Root of every error with a message meant for a person."""

    exit_code = 1


class InputError(SimileError):
    """Bad input or usage; the message is one line that says what was got, what is needed, and where."""

    exit_code = 2


class BundleError(InputError):
    """A bundle that cannot be trusted: damaged, incomplete, of an unknown version, or with files it does not list."""


class ServerError(SimileError):
    """A server that scores pairs failed, or what answered is none.

    Args:
        message: one line: the address, what was answered.
        status: the answer's HTTP status; None where there was no answer.
        kind: the error's type as the server names it, such as ``invalid_request``.
        param: the place in the request, such as ``pairs[3].text_a``, counted in the caller's list.
    """

    def __init__(
        self, message: str, *, status: int | None = None, kind: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = kind
        self.param = param


class ServerRefusedError(ServerError):
    """The server does not take this request, now or later."""

    exit_code = 2


class ServerUnavailableError(ServerError):
    """The server cannot be reached, or cannot take the request now; the same request may do later."""

    exit_code = 75


class StoppedError(SimileError):
    """Work that stopped before its end and goes on when the same command is run again."""

    exit_code = 75
