"""The evaluation report: what `simile evaluate --json` writes, and what a bundle remembers in ``evaluation.json``."""

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from simile.artifacts.strict import ChecksummedModel, StrictModel

UNKNOWN_LIMIT = 0.05
"""Largest share of unknown tokens in a set of pairs that does not raise a note."""


class EvaluatedBundle(StrictModel):
    """A bundle and the runtime that scored with it."""

    name: str
    digest: str
    """The sha256 of the bundle's canonical manifest."""
    provider: str
    """ONNX Runtime's execution provider."""
    precision: Literal["fp32", "bf16", "fp16", "int8"]


class EvaluatedEndpoint(StrictModel):
    """A server that scored over HTTP. It has no digest: its weights are unknown, and may be others tomorrow."""

    name: str
    """What the user calls it."""
    url: str
    """The address that texts were sent to; it has neither user nor query."""
    api: Literal["simile", "tei", "openai"]
    """The API that was used: Simile's, text-embeddings-inference's or OpenAI's, of whose embeddings the cosine was
    taken."""
    model: str
    """The model as the server names it."""

    @property
    def description(self) -> str:
        """API, address and model in words."""
        api = {"simile": "Simile's API", "tei": "TEI's API", "openai": "OpenAI's API"}[self.api]
        return f"{api} at {self.url}, model {self.model}"


class Figures(StrictModel):
    """How well scores order pairs; a graded set has its Spearman only."""

    spearman: float | None
    """Rank correlation of score and label; None where the scores are constant."""
    auc: float | None = Field(None, exclude_if=lambda value: value is None)
    """Probability that a positive pair outscores a negative one."""
    separability: float | None = Field(None, exclude_if=lambda value: value is None)
    """Mean score of the positive pairs minus that of the negative ones."""
    overlap: float | None = Field(None, exclude_if=lambda value: value is None)
    """Area that the score histograms of the two classes share."""
    calibration_error: float | None = Field(None, exclude_if=lambda value: value is None)
    """Expected calibration error of the probabilities; only where the bundle is calibrated."""


class Difference(StrictModel):
    """The bundle's Spearman minus the baseline's, with the ends of the 95 % interval; None where undefined."""

    spearman: float | None
    low: float | None
    high: float | None


class LexicalFigures(StrictModel):
    """What word overlap alone reaches."""

    spearman: float | None
    """Spearman of the TF-IDF cosine; None where it is constant."""


class SetEvaluation(StrictModel):
    """The figures of one set of labelled pairs."""

    pairs: int
    """Number of pairs."""
    sha256: str
    """Hash of the pair file."""
    graded: bool
    """Whether the labels are graded scores instead of 0 and 1."""
    weighted: bool = Field(False, exclude_if=lambda value: not value)
    """Whether pairs are weighted by the inverse of their inclusion probability, so that the figures are of the
    population that they were sampled from."""
    bundle: Figures
    baseline: Figures | None
    difference: Difference | None
    lexical: LexicalFigures
    unknown_tokens: dict[str, float] = Field(default_factory=dict)
    """Share of the texts' tokens that are unknown to each encoder of the bundle, by the name of its base."""


class Looks(StrictModel):
    """How many bundles were judged on a set, and what remains of the gate's level of 5 % after them."""

    bundles: int
    """Number of different bundles that the gate has judged on the set, this one included."""
    level: float
    """Level of the verdict: 0.05 divided by the number of bundles (Bonferroni)."""
    low: float | None
    """Low end of the difference's interval at this level; None where undefined."""


class NeededPairs(StrictModel):
    """The size of a set of which a verdict would be sure with a chance of 80 %, if the observed difference is true."""

    pairs: int
    units: int
    """Number of groups or texts among the pairs, as `IntervalMethod.unit` says."""


class IntervalMethod(StrictModel):
    """How the intervals were computed."""

    unit: dict[str, Literal["group", "text"]]
    """What was resampled, by set."""
    resamples: int
    seed: int


GuardResult = Literal["kept", "lost", "undecided"]


class EvaluationReport(StrictModel):
    """The figures of a bundle or an endpoint on every set, beside the baseline's, and the verdict of the gate."""

    schema_version: Literal[2] = 2
    version: str | None = None
    """Version of the Simile that evaluated; None in a report of 0.2 or earlier."""
    commit: str | None = None
    """Commit of its source; None where it is unknown."""
    bundle: EvaluatedBundle | EvaluatedEndpoint
    """What was judged; the figures of an endpoint have the name ``bundle`` in each set too."""
    baseline: EvaluatedBundle | EvaluatedEndpoint | None
    prior: float | None
    """Share of positives that the probabilities assume; None for the calibrations' own."""
    sets: dict[str, SetEvaluation]
    guards: dict[str, SetEvaluation]
    """Sets on which nothing may be lost."""
    interval: IntervalMethod
    leaked_texts: dict[str, int] | None
    """Number of texts per set that were trained on; None where the training texts are unknown."""
    baseline_leaked_texts: dict[str, int] | None = None
    """Number of texts per set that the baseline was trained on; None where its training texts are unknown."""
    looks: dict[str, Looks] = Field({})
    """Looks at each set, without the guards; empty without a gate."""
    guard_results: dict[str, GuardResult] = Field({})
    """What the interval of the difference says of each guard; empty without a gate."""
    needed: dict[str, NeededPairs] = Field({}, exclude_if=lambda value: not value)
    """How large each set or guard of which the verdict is not sure would have to be: the interval contains 0 although
    the difference is above 0, or the guard is undecided."""
    verdict: Literal["pass", "fail"] | None = None
    reasons: tuple[str, ...] = ()
    """Every reason against a pass, or else what held; then remarks."""

    @property
    def all_sets(self) -> dict[str, SetEvaluation]:
        """Sets and guards by name."""
        return self.sets | self.guards

    @property
    def judged_column(self) -> str:
        """The heading of the figures of what was judged, in tables."""
        return "endpoint" if isinstance(self.bundle, EvaluatedEndpoint) else "Simile"

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever reads the figures has to know."""
        unknown = unknown_notes({name: entry.unknown_tokens for name, entry in self.all_sets.items()})
        weighted = [name for name, entry in self.all_sets.items() if entry.weighted]
        told = (
            f"{', '.join(weighted)}: pairs are weighted by 1 / inclusion_probability, so the figures are of the traffic"
        )
        needed = (self._needed_note(name, needed) for name, needed in self.needed.items())
        return (*([told] if weighted else []), *unknown, *needed)

    def _needed_note(self, name: str, needed: NeededPairs) -> str:
        size = f"about {needed.pairs:,} pairs over {needed.units:,} {self.interval.unit[name]}s"
        gain = self.all_sets[name].difference
        what = f"show the observed gain of {gain.spearman:+.4f}" if gain and name in self.sets else "decide the guard"
        return f"{name}: not sure yet; {size} would {what} with a chance of 80 %"


class BundleReport(EvaluationReport):
    """A report in which no endpoint takes part: the only kind that a bundle stores."""

    bundle: EvaluatedBundle
    baseline: EvaluatedBundle | None


class StoredEvaluations(ChecksummedModel):
    """The content of ``evaluation.json``: the newest report of each choice of sets, baseline and runtime.

    Reports with and without a verdict are kept beside each other. The latest is the last.
    """

    reports: tuple[BundleReport, ...]


def unknown_notes(shares_by_set: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yield a note on each set of pairs of which an encoder's tokenizer knows too little."""
    for name, shares in shares_by_set.items():
        for base, share in shares.items():
            if share > UNKNOWN_LIMIT:
                told = f"{share:.0%} of the tokens of {name} are unknown to the encoder {base}"
                yield f"{told}: texts that differ in these look equal"
