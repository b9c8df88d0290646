"""Provenance: how a bundle was made, as its manifest states it."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from simile.artifacts.strict import StrictModel


class _Provenance(StrictModel):
    versions: dict[str, str] = Field({})
    """Version of Simile, Python and the libraries that the bundle's numbers depend on."""
    commit: str | None = None
    """Commit of Simile's source; None where neither the build nor git knows it."""


class BaselineProvenance(_Provenance):
    """An untouched encoder, exported."""

    by: Literal["simile baseline"] = "simile baseline"
    base: str
    """The public name of the encoder."""
    revision: str | None = None


class RunFacts(StrictModel):
    """What identifies a training run: only a run with the same facts may continue its work."""

    config: dict[str, JsonValue]
    base: str | None
    """Hash of a local base encoder's files; None for one that its name identifies."""
    version: str
    pairs: tuple[str, ...]
    """Hashes of the files of training pairs."""
    dev: dict[str, str]
    """Hashes of the dev sets, by name."""
    calibration: tuple[str, ...]
    """Hashes of the calibration sets."""


class TrainingProvenance(_Provenance):
    """A trained encoder."""

    by: Literal["simile train"] = "simile train"
    run: RunFacts
    seed: int
    texts: str
    """The sha256 of the hashes of the training texts."""
    alpha: float | None = Field(None, exclude_if=lambda value: value is None)
    """Interpolation coefficient between the base (0) and the tuned weights (1); None without interpolation."""


class JoinProvenance(_Provenance):
    """An ensemble of the members of several bundles."""

    by: Literal["simile join"] = "simile join"
    of: tuple[str, ...]
    """Identities of the bundles."""
    fitted_on: str | None
    """Hash of the pairs that the weights were learned on; None for the mean."""
    texts: str | None
    """The sha256 of the hashes of all training texts; None where a bundle's are unknown."""


Provenance = Annotated[BaselineProvenance | TrainingProvenance | JoinProvenance, Field(discriminator="by")]
