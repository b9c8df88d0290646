"""The mining report: what ``report.json`` in a folder of mined pairs holds."""

from typing import Literal

from pydantic import Field, JsonValue

from simile.artifacts.pair import Tier
from simile.artifacts.strict import StrictModel

Ends = tuple[float | None, float | None]
"""The ends of a bin; None where it is open."""
LabelSource = Literal["groups", "categories", "pairs"]


class Shortcuts(StrictModel):
    """Spearman that each cheap feature reaches alone; None where the feature is constant or the labels are guessed."""

    tfidf: float | None
    """TF-IDF cosine weighted by the set's own texts, as in evaluations."""
    length_ratio: float | None
    same_category: float | None


class BaselineFigures(StrictModel):
    """Figures on how well the untouched encoder's scores order the pairs."""

    spearman: float | None
    auc: float
    separability: float
    overlap: float
    positives_below_negatives: float
    """Share of the positive pairs that score below the median negative pair."""
    negatives_above_positives: float
    """Share of the negative pairs that score above the median positive pair."""


class MinedSet(StrictModel):
    """The figures of one set of pairs."""

    pairs: int
    positives: int
    texts: int
    """Number of different texts."""
    characters: float
    """Mean length of the pairs' texts."""
    same_category_negatives: float | None
    """Share of the negative pairs within one category, among those that state it."""
    alone: Shortcuts
    baseline: BaselineFigures | None
    unknown_tokens: dict[str, float]
    """Share of the texts' tokens that are unknown to each encoder of the baseline, by the name of its base."""


class TargetSet(MinedSet):
    """The figures of the target."""

    is_labelled: bool
    without_category: int
    """Number of pairs that do not state whether they are of one category."""
    outside_band: int
    """Number of pairs outside the band that was asked for."""
    matched_tfidf: float | None
    """Spearman of the TF-IDF cosines that mining matches, weighted by all documents, on the target's own labels."""


class AdversarialAuc(StrictModel):
    """AUC of a classifier that tries to tell mined pairs from target pairs; None where there are too few pairs."""

    matched: float | None
    """Using the features that mining follows."""
    all: float | None
    """Using further features as well."""


class CellShare(StrictModel):
    """Share of the pairs that lie in one cell."""

    target: float
    mined: float


class JointCell(StrictModel):
    """One cell of the joint distribution of the pairs' features."""

    tfidf: Ends
    length_ratio: Ends
    baseline: Ends | None = Field(None, exclude_if=lambda value: value is None)
    same_category: bool
    positive: CellShare
    negative: CellShare
    all: CellShare

    def share(self, pair_class: str) -> CellShare:
        """Return the shares of ``positive``, ``negative`` or ``all`` pairs."""
        shares = {"positive": self.positive, "negative": self.negative, "all": self.all}
        return shares[pair_class]


class MatchReport(StrictModel):
    """The similarity of the mined pairs to the target's, by class (or over ``all``, where labels are guessed)."""

    adversarial: dict[str, AdversarialAuc]
    distance: dict[str, float]
    """Total variation distance over the cells, in [0, 1]."""
    joint: tuple[JointCell, ...]


class FalseNegatives(StrictModel):
    """Negative candidates that may well be positives."""

    found: int
    of: int
    """Number of negative candidates that were examined."""


class SplitSize(StrictModel):
    """The size of one split of the documents."""

    documents: int
    groups: int


class MiningFacts(StrictModel):
    """The part of the report that is known once the pairs are mined."""

    schema_version: Literal[1] = 1
    documents: int
    """Number of documents read."""
    sampled: int
    """Number of documents with a known meaning that pairs were mined from."""
    not_sampled: int
    """Number of documents with a known meaning that the sample left out."""
    groups: int
    categories: int
    cut: int
    """Number of documents whose text was too long and was cut."""
    contradictions: int = 0
    """Number of texts that are in several groups (or categories, where these label the pairs)."""
    dropped: dict[str, int]
    """Number of documents left out, by reason."""
    labels: LabelSource
    """The evidence that two documents mean the same."""
    band: tuple[float, float]
    """TF-IDF cosines of matched pairs."""
    wanted: int
    """Number of training pairs asked for."""
    suspects: FalseNegatives | None
    """None where no baseline looked for them."""
    unlike_target: tuple[str, ...]
    """Held-out sets that could not follow the target."""
    split: dict[str, SplitSize]

    @property
    def have_category_relations(self) -> bool:
        """Whether pairs of either class may be of one category or not: categories exist and do not label the pairs."""
        return self.labels != "categories" and self.categories > 0


class MiningReport(MiningFacts):
    """The documents that were read, the pairs that were mined, and how similar these are to the target."""

    version: str | None = None
    """Version of the Simile that mined; None in a report of 0.2 or earlier."""
    commit: str | None = None
    """Commit of its source; None where it is unknown."""
    config: dict[str, JsonValue]
    """Every setting of the run."""
    sets: dict[str, MinedSet]
    tiers: dict[Tier, MinedSet] = Field(default_factory=dict)
    """The training pairs by tier; empty where they were not mined by tiers."""
    target: TargetSet | None
    match: MatchReport | None
    triplets: int
    """Number of triplets written."""
    warnings: tuple[str, ...] = ()

    @property
    def training(self) -> MinedSet:
        """The figures of the training pairs."""
        return self.sets["pairs"]

    @property
    def hardest(self) -> MinedSet:
        """The figures of the training pairs of the first tier, or of all where there are no tiers."""
        return next(iter(self.tiers.values()), self.training)

    @property
    def shown_sets(self) -> dict[str, MinedSet]:
        """The figures of every set, of each of several tiers, and of the target under ``(target)``."""
        tiers = {f"tier {tier}": entry for tier, entry in self.tiers.items()} if len(self.tiers) > 1 else {}
        others = {name: entry for name, entry in self.sets.items() if name != "pairs"}
        return {"pairs": self.training, **tiers, **others, **({"(target)": self.target} if self.target else {})}
