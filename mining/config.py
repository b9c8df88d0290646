"""Settings of mining."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, lt=1)]
Cosine = Annotated[float, Field(ge=0, le=1)]
Strategy = Literal["matched", "bands", "curriculum"]
FalseNegatives = Literal["drop", "keep", "report"]
MAX_PAIRS = 15_000
"""The most training pairs that are wanted where no number was asked for."""
MIN_DOCUMENTS = 40_000
"""Number of documents to sample, or two per pair wanted if that is more, so that each pair can have its own texts."""


class MineConfig(BaseModel):
    """Settings of one mining run: the options of `simile mine`, and the keys of ``mine`` in a run's YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    RENAMED: ClassVar[Mapping[str, str]] = {"recipe": "strategy", "format": "triplets"}
    """Today's name of each setting that once had another; the old one is refused."""

    strategy: Strategy = "matched"
    """How pairs are chosen. ``matched``: as hard as the target or, without one, each positive with a negative of as
    much word overlap. ``bands``: each class from a band of TF-IDF cosines, which word overlap alone can tell apart.
    ``curriculum``: three phases, easy, medium and (as ``matched``) hard."""
    pairs: Annotated[int, Field(ge=2, le=10**8)] | None = None
    """Training pairs to mine, both classes together (default: ten per document, at most 15,000)."""
    require: bool = False
    """Stop where the documents give fewer pairs, instead of writing those."""
    band: tuple[Cosine, Cosine] | None = None
    """Lowest and highest TF-IDF cosine of matched pairs (default: 0.05 and 0.5, or those of the target)."""
    positive_band: tuple[Cosine, Cosine] = (0.30, 0.50)
    """Lowest and highest TF-IDF cosine of positives under the strategy ``bands``."""
    negative_band: tuple[Cosine, Cosine] = (0.15, 0.45)
    """Lowest and highest TF-IDF cosine of negatives under the strategy ``bands``."""
    same_category: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Share of the negatives whose texts have the same category; a target that has categories sets its own."""
    max_uses: Annotated[int, Field(ge=1, lt=2**31)] = 20
    """Pairs of one class and set that a text may be in."""
    false_negatives: FalseNegatives | None = None
    """What happens to negatives that the baseline scores above their texts' own positives: ``drop`` them (default),
    ``keep`` them, or keep and ``report`` them."""
    triplets: bool = False
    """Also write each positive pair with a hard negative, for ranking losses."""
    dev_share: Share | None = None
    """Share of the groups that is held out whole (dev-unseen), and of the other groups' documents (dev-seen) (default:
    0.05, or 0 with a labelled target, which is a dev set)."""
    test_share: Share = 0.0
    """The same share for test-seen and test-unseen; 0 where the test pairs come from elsewhere."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of all random choices."""

    @property
    def max_documents(self) -> int:
        """The size of the sample that pairs are mined from."""
        return max(MIN_DOCUMENTS, 2 * (self.pairs or MAX_PAIRS))

    @model_validator(mode="after")
    def _bands_are_bands(self) -> "MineConfig":
        for name in ("band", "positive_band", "negative_band"):
            if (band := getattr(self, name)) and not band[0] < band[1]:
                raise ValueError(f"got {name} {band[0]:g} {band[1]:g}, need the lower end first")
        dev_share = self.dev_share or 0.0
        if dev_share + self.test_share >= 0.9:
            raise ValueError(f"got shares of {dev_share:g} and {self.test_share:g}, need less than 0.9 together")
        return self
