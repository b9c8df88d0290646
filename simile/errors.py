"""The errors a person can meet, and the exit code each one ends with.

SimileError
├── InputError     2   bad input or usage: what was got, what is needed, where
│   └── BundleError    a bundle that is not whole, not known, or not what its manifest says
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


class StoppedError(SimileError):
    """Work that stopped before its end and goes on when the same command is run again."""

    exit_code = 75
