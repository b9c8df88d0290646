"""What a mining run is told."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, lt=1)]
Cosine = Annotated[float, Field(ge=0, le=1)]


class MineConfig(BaseModel):
    """One mining run."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    recipe: Literal["matched", "bands"] = "matched"
    """``matched``: both classes with the same TF-IDF distribution. ``bands``: the usual recipe, a TF-IDF band a class,
    which word overlap alone can tell apart."""
    pairs: Annotated[int, Field(ge=2)] = 10_000
    """Training pairs wanted, both classes together."""
    band: tuple[Cosine, Cosine] = (0.05, 0.50)
    """TF-IDF cosines of matched pairs; with a target, its own band. Pairs without a word in common are never mined."""
    positive_band: tuple[Cosine, Cosine] = (0.30, 0.50)
    """Of recipe ``bands``."""
    negative_band: tuple[Cosine, Cosine] = (0.15, 0.45)
    """Of recipe ``bands``."""
    same_category: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Share of the negatives whose texts are of one category."""
    max_uses: Annotated[int, Field(ge=1)] = 20
    """How many pairs of one class and set a text may be in."""
    dev_share: Share = 0.1
    """Of the groups, held out whole (dev-unseen), and of the other groups' documents (dev-seen)."""
    test_share: Share = 0.0
    """The same for test-seen and test-unseen; 0 where test pairs come from elsewhere."""
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _bands_are_bands(self) -> "MineConfig":
        for name in ("band", "positive_band", "negative_band"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"got {name} {low:g} {high:g}, need the lower end first")
        if self.dev_share + self.test_share >= 0.9:
            raise ValueError(f"got shares of {self.dev_share:g} and {self.test_share:g}, need less than 0.9 together")
        return self
