"""Provenance: how a bundle was made, as its manifest states it."""

from collections.abc import Mapping
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
    teacher: str | None = Field(None, exclude_if=lambda value: value is None)
    """Digest of the teacher's bundle, in a distillation."""
    unlabelled: str | None = Field(None, exclude_if=lambda value: value is None)
    """Hash of the unlabelled texts of a distillation."""


class _FittedProvenance(_Provenance):
    trained_texts: dict[str, int] = Field({}, exclude_if=lambda nums: not nums)
    """Number of texts that are trained on, of each set of pairs that something was chosen by or fitted on, by its name;
    sets without such texts are left out."""


class TrainingProvenance(_FittedProvenance):
    """A trained encoder."""

    by: Literal["simile train"] = "simile train"
    run: RunFacts
    seed: int
    texts: str
    """The sha256 of the hashes of the training texts."""
    alpha: float | None = Field(None, exclude_if=lambda value: value is None)
    """Interpolation coefficient between the base (0) and the tuned weights (1); None without interpolation."""


def trained_on(trained_texts: Mapping[str, int]) -> str:
    """Return the sentence that marks the figures of sets of pairs by the number of their texts that are trained on."""
    sets = ", ".join(f"{num:,} texts of {name}" for name, num in trained_texts.items())
    return f"The training pairs contain {sets}: what was chosen by these sets or fitted on them looks too good."


class JoinProvenance(_FittedProvenance):
    """An ensemble of the members of several bundles."""

    by: Literal["simile join"] = "simile join"
    of: tuple[str, ...]
    """Identities of the bundles."""
    fitted_on: str | None
    """Hash of the pairs that the weights were learned on; None for the mean."""
    texts: str | None
    """The sha256 of the hashes of all training texts; None where a bundle's are unknown."""


Provenance = Annotated[BaselineProvenance | TrainingProvenance | JoinProvenance, Field(discriminator="by")]
