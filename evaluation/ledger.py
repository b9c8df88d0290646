"""The ledger of looks: which bundles the gate has judged on which test sets.

It stands beside the baseline, one JSON object per line. A model that is chosen among many by one test set looks better
there than it is, so the gate counts them. Lines are only ever appended, under a lock.
"""

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from simile.artifacts import PairSet
from simile.artifacts.bundle import Sha256
from simile.artifacts.strict import StrictModel
from simile.errors import InputError

_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOLCK)


class Look(StrictModel):
    """One bundle that was judged on one set."""

    bundle: Sha256
    """Digest of the bundle."""
    set: Sha256
    """Hash of the file of pairs."""
    name: str
    """Name of the set."""


def ledger_beside(baseline: Path) -> Path:
    """Return the ledger of the bundles that are compared with this baseline."""
    return baseline.with_name(f"{baseline.name}.looks.jsonl")


def count_looks(ledger: Path, digest: str, sets: Sequence[PairSet]) -> tuple[dict[str, int], str | None]:
    """Record that the bundle is judged on the sets; return how many different bundles have been, by the set's name.

    The second value is a remark where the ledger cannot be written to, so that this look is not recorded.

    Raises:
        InputError: the file is no ledger.
    """
    if ledger.exists() and not ledger.is_file():
        raise InputError(f"{ledger}: is no file, need one for the ledger of looks")
    own = [Look(bundle=digest, set=pairs.sha256, name=pairs.name) for pairs in sets]
    try:
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with ledger.open("a+b") as file:
            # Another process may add its look at the same moment.
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            looks = _parsed(ledger, file.read())
            known = {(look.bundle, look.set) for look in looks}
            new = [look for look in own if (look.bundle, look.set) not in known]
            file.write("".join(f"{look.model_dump_json()}\n" for look in new).encode())
            file.flush()
            os.fsync(file.fileno())
        remark = None
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        looks = _parsed(ledger, ledger.read_bytes()) if os.access(ledger, os.R_OK) else []
        remark = f"{ledger}: cannot be written to ({error.strerror}), so this look is not counted"
    bundles = {pairs.name: {look.bundle for look in [*looks, *own] if look.set == pairs.sha256} for pairs in sets}
    return {name: len(digests) for name, digests in bundles.items()}, remark


def _parsed(ledger: Path, content: bytes) -> list[Look]:
    looks = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            looks.append(Look.model_validate_json(line))
        except ValidationError as error:
            need = "need a look as the gate writes it; remove the line if it is damaged"
            raise InputError(f"{ledger}:{number}: got no look at a test set, {need}") from error
    return looks
