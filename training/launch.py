"""Run torchrun with Simile's exit codes: ``python -m training.launch --nproc-per-node 2 -m pipeline.cli train ...``.

torchrun itself ends with 1, and a traceback, however its processes end: a scheduler could not tell bad input (2) from a
stop that can be resumed (75).
"""

import sys
from collections.abc import Sequence

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from simile.errors import StoppedError


def main(argv: Sequence[str] | None = None) -> int:
    """Run torchrun with these arguments; return the exit code of the process that failed first, or 0."""
    arguments = run.parse_args(list(sys.argv[1:] if argv is None else argv))  # type: ignore[no-untyped-call]
    try:
        run.run(arguments)  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        # A negative code is that of a signal, as the shell's is 128 and more.
        return code if code > 0 else 128 - code
    except SignalException:
        return StoppedError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
