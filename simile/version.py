"""The version and the commit of this code; the build reads the version without importing the package."""

from functools import cache
from pathlib import Path

__version__ = "0.2.0"


@cache
def commit() -> str | None:
    """Return the commit that this code was built from; in a checkout, the current one, ``-dirty`` after local changes.

    Builds write it into a file beside this one (``hatch_build.py``). Without that file and without git it is None.
    """
    folder = Path(__file__).parent
    try:
        return (folder / "COMMIT").read_text(encoding="utf-8").strip()
    except OSError:
        return described(folder.parent)


def described(checkout: Path) -> str | None:
    """Return what git says of the checkout at this folder; None without a repository there, or without git."""
    # Imported here, since most processes never ask.
    import subprocess

    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        # Excluding every tag, so that the commit is described by its hash alone.
        done = subprocess.run([*command, "--exclude", "*"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
