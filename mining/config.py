"""What a mining run is told."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, lt=1)]
Cosine = Annotated[float, Field(ge=0, le=1)]
Strategy = Literal["matched", "bands", "curriculum"]
FalseNegatives = Literal["drop", "keep", "report"]
Format = Literal["pairs", "triplets"]


class MineConfig(BaseModel):
    """One mining run."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    strategy: Strategy = "matched"
    """``matched``: as the target is, or, without one, each positive with a negative of as many words in common.
    ``bands``: the usual recipe, a TF-IDF band a class, which word overlap alone can tell apart. ``curriculum``: three
    phases, easy, medium and (as ``matched``) hard."""
    pairs: Annotated[int, Field(ge=2)] = 10_000
    """Training pairs wanted, both classes together."""
    allow_fewer: bool = False
    """Write as many as there are where the documents do not give that many."""
    band: tuple[Cosine, Cosine] | None = None
    """TF-IDF cosines of matched pairs (0.05 to 0.50, or the target's own)."""
    positive_band: tuple[Cosine, Cosine] = (0.30, 0.50)
    """Of strategy ``bands``."""
    negative_band: tuple[Cosine, Cosine] = (0.15, 0.45)
    """Of strategy ``bands``."""
    same_category: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Share of the negatives whose texts are of one category; with a target that says categories, its own."""
    max_uses: Annotated[int, Field(ge=1)] = 20
    """How many pairs of one class and set a text may be in."""
    false_negatives: FalseNegatives | None = None
    """Negatives that the baseline scores above their texts' own positives: left out (the default), kept, or kept and
    counted."""
    format: Format = "pairs"
    """``triplets``: besides, each positive pair with a hard negative, for ranking losses."""
    dev_share: Share = 0.05
    """Of the groups, held out whole (dev-unseen), and of the other groups' documents (dev-seen)."""
    test_share: Share = 0.0
    """The same for test-seen and test-unseen; 0 where test pairs come from elsewhere."""
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _bands_are_bands(self) -> "MineConfig":
        for name in ("band", "positive_band", "negative_band"):
            if (band := getattr(self, name)) and not band[0] < band[1]:
                raise ValueError(f"got {name} {band[0]:g} {band[1]:g}, need the lower end first")
        if self.dev_share + self.test_share >= 0.9:
            raise ValueError(f"got shares of {self.dev_share:g} and {self.test_share:g}, need less than 0.9 together")
        return self
