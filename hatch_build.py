"""The build hook that writes the commit into wheels and source distributions, as ``simile/COMMIT``."""

import os
import runpy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):  # type: ignore[misc]
    """Adds the commit from ``SIMILE_COMMIT``, or else from git; without either the build goes on without it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the commit into a temporary file that the build includes."""
        # A checkout that is installed for development asks git whenever somebody wants to know.
        if version == "editable":
            return
        root = Path(self.root)
        described = runpy.run_path(str(root / "simile" / "version.py"))["described"]
        if commit := os.environ.get("SIMILE_COMMIT") or described(root):
            self._folder = TemporaryDirectory()
            file = Path(self._folder.name) / "COMMIT"
            file.write_text(f"{commit}\n", encoding="utf-8")
            build_data["force_include"][str(file)] = "simile/COMMIT"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary file."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()
