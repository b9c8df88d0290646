"""Mining of documents into hard pairs: this module runs the steps, each of which is a sub-package.

1. `mining.corpus` samples the documents, drops near duplicates, groups them by meaning and splits them into sets.
2. `mining.sampling` computes features of the pairs of each set and draws a bounded sample of candidates from them.
3. `mining.matching` selects pairs from the candidates by the mining strategy, similar to a target if there is one.
4. `mining.report` turns the selected pairs and the facts of the run into the mining report and its page.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mining.config import MAX_PAIRS, MineConfig
from mining.corpus.embeddings import Vectors
from mining.corpus.gather import Corpus, gather
from mining.corpus.meaning import Links, known_pairs, with_meaning
from mining.corpus.shortage import num_positives, repetition, require_pairable
from mining.corpus.sketch import Sampling
from mining.corpus.split import distinct, split_documents
from mining.matching.strategies import Selection, Selector, Split, joined
from mining.matching.target import (
    CategorySource,
    Target,
    categories_of_groups,
    check_target,
    impute,
    read_target,
    settle_same_category,
    without_shortcut,
)
from mining.matching.triplets import Triplet, triplets, write_triplets
from mining.sampling.candidates import WHOLE, Band, num_comparisons
from mining.sampling.features import Features, codes
from mining.sampling.label_noise import best_positive
from simile.artifacts import MIN_DEV_PAIRS, Document, MiningFacts, Pair, PairSet, SplitSize, write_pairs
from simile.errors import InputError
from simile.progress import Progress
from simile.scoring import Scorer

_TRAIN = "train"
"""The split from which ``pairs`` and a curriculum's phases are mined; each held-out set has a split of its own name."""
HELD_OUT_SHARE, MIN_HELD_OUT = 0.2, 4000
"""Wanted size of each held-out set: this share of the training pairs, but at least this number."""
DEFAULT_BAND = (0.05, 0.50)
DEFAULT_DEV_SHARE = 0.05
_PAIRS_PER_DOCUMENT = 10
"""Training pairs wanted where no number was asked for: this many per document, up to `MAX_PAIRS`."""
MIN_TEST_PAIRS = 30
"""The fewest pairs of a test set: on fewer, even a large gain is not certain."""
_CANDIDATES_FOR_LABELS = 5_000
"""Number of candidates of each class with which the pairs of an unlabelled target are compared."""


@dataclass(frozen=True, slots=True)
class Mined:
    """The pairs of each set, and what is known about them."""

    config: MineConfig
    sets: dict[str, list[Pair]]
    """``pairs`` (for training), ``phase1`` to ``phase3`` of a curriculum (its parts), and the held-out sets."""
    triplets: list[Triplet]
    facts: MiningFacts
    target: Target | None
    vectors: Vectors | None
    """The baseline's embeddings of every text in the sets and the target."""
    notes: tuple[str, ...] = ()
    """What is doubtful about the documents' groups and categories, for the user."""


def mine(
    documents: Iterable[Document] | Corpus,
    config: MineConfig,
    target: PairSet | None = None,
    *,
    held_out: Iterable[str] = (),
    positives: PairSet | None = None,
    baseline: Scorer | None = None,
) -> Mined:
    """Return pairs mined from the documents, for training and for the held-out sets.

    The mined pairs follow the distribution of the target, if there is one, in the baseline's cosines too. Its texts and
    those of ``held_out`` are excluded. The pairs known to be ``positives`` replace the documents' groups.

    Documents that are sketched already are given as a corpus; their sketches were made with these positives.

    Raises:
        InputError: the documents cannot yield the pairs, or the target or the positives cannot be used.
    """
    if config.false_negatives in ("drop", "report") and baseline is None:
        raise InputError(
            f"got --false-negatives {config.false_negatives} without a baseline, need --baseline to find them"
        )
    known = known_pairs(positives) if positives else None
    if target:
        check_target(target)
    target_texts = [text for pair in target.texts for text in pair] if target else []
    is_dev_set = target is not None and target.is_labelled and len(target.rows) >= MIN_DEV_PAIRS
    dev_share = config.dev_share if config.dev_share is not None else 0.0 if is_dev_set else DEFAULT_DEV_SHARE
    prepared = _Prepared(documents, config, known, [*target_texts, *held_out], dev_share)
    corpus = prepared.corpus
    vectors = Vectors(baseline, [*(row.text for row in prepared.rows), *target_texts]) if baseline else None
    goal = None
    if target:
        goal = read_target(target, corpus.tfidf, vectors, categories_of_groups(corpus.rows), band=config.band)
    miner = _Miner(config, prepared, vectors, goal)
    selections = miner.mine()
    training, rows_of_set = selections["pairs"], prepared.rows_of_set
    has_both = len(set(training.chosen.is_positive_C.tolist())) == 2
    _require_enough(len(training.chosen) if has_both else 0, config, miner.band, prepared)
    sets = {
        name: _pairs(rows_of_set.get(name, rows_of_set[_TRAIN]), selection, with_groups=known is None)
        for name, selection in selections.items()
        # A held-out set without pairs of both classes is left out.
        if len(selection.chosen)
    }
    matched = triplets(rows_of_set[_TRAIN], training.chosen, training.pool) if config.triplets else []
    return Mined(config, sets, matched, _facts(prepared, miner, training), miner.target, vectors, corpus.notes)


class _Prepared:
    """The documents after sampling, removal of those that repeat another or an excluded text, and splitting."""

    def __init__(
        self,
        documents: Iterable[Document] | Corpus,
        config: MineConfig,
        known: Links | None,
        excluded: Sequence[str],
        dev_share: float,
    ) -> None:
        self._config = config
        if not isinstance(documents, Corpus):
            required = known.keys if known else None
            documents = gather(documents, Sampling(config.max_documents, config.seed, required))
        self.corpus = documents
        self.meaning = with_meaning(self.corpus, known)
        self.rows, self.repeated = distinct(self.meaning.rows, excluded)
        require_pairable(self.meaning, self.rows, self.repeated)
        shares = {"dev_share": dev_share, "test_share": config.test_share}
        self.rows_of_set = split_documents(self.rows, **shares, seed=config.seed)

    @property
    def num_wanted(self) -> int:
        """The number of training pairs wanted."""
        return self._config.pairs or min(MAX_PAIRS, _PAIRS_PER_DOCUMENT * len(self.rows_of_set[_TRAIN]))

    def give_back(self, name: str) -> None:
        """Move the documents of a held-out set to those that are trained on."""
        self.rows_of_set[_TRAIN] += self.rows_of_set.pop(name)

    @property
    def category_source(self) -> CategorySource:
        """The evidence that a pair of these documents is of one category."""
        if all(row.category is None for row in self.rows):
            return "nothing"
        return "labels" if self.meaning.source == "categories" else "categories"


def _facts(prepared: _Prepared, miner: "_Miner", training: Selection) -> MiningFacts:
    corpus, meaning, rows = prepared.corpus, prepared.meaning, prepared.rows
    # Texts of known pairs are among the rows whether they were read as documents or not.
    num_sampled = len(corpus.rows) if meaning.links else len(meaning.rows)
    lacking = "no category" if meaning.source == "categories" else "no group"
    return MiningFacts(
        documents=corpus.num_read,
        sampled=num_sampled,
        not_sampled=corpus.num_read - meaning.num_without - num_sampled,
        groups=len({row.group for row in rows}),
        categories=len({row.category for row in rows if row.category is not None}),
        cut=corpus.num_cut,
        contradictions=corpus.contradictions.num_texts,
        dropped={lacking: meaning.num_without, **prepared.repeated},
        labels=meaning.source,
        band=miner.band,
        wanted=prepared.num_wanted,
        suspects=training.false_negatives,
        unlike_target=tuple(miner.unlike_target),
        split={
            name: SplitSize(documents=len(members), groups=len({row.group for row in members}))
            for name, members in prepared.rows_of_set.items()
        },
    )


class _Miner:
    """Mines one set after another."""

    def __init__(self, config: MineConfig, prepared: _Prepared, vectors: Vectors | None, target: Target | None) -> None:
        self.config, self._prepared, self._vectors = config, prepared, vectors
        self._rng = np.random.default_rng(config.seed)
        self._best_positive = self._best_positives(vectors) if vectors and config.false_negatives != "keep" else None
        self.band: Band = target.band if target else config.band or DEFAULT_BAND
        self.target = self._completed(target) if target else None
        self.unlike_target: list[str] = []
        """Sets that could not follow the target."""

    def mine(self) -> dict[str, Selection]:
        """Return the selection of each set: ``pairs``, a curriculum's phases, the held-out sets.

        The documents of a set that turns out too small to choose or to judge by are trained on.
        """
        num_pairs = self._prepared.num_wanted
        num_held_out = max(MIN_HELD_OUT, round(HELD_OUT_SHARE * num_pairs))
        rows_of_set = self._prepared.rows_of_set
        num_phases = 3 if self.config.strategy == "curriculum" else 1
        total = sum(
            num_phases * num_comparisons(len(rows), num_pairs // 2 // num_phases)
            if name == _TRAIN
            else num_comparisons(len(rows), num_held_out // 2)
            for name, rows in rows_of_set.items()
        )
        selections: dict[str, Selection] = {}
        with Progress("mining", total, "pairs compared") as progress:
            for name in [name for name in rows_of_set if name != _TRAIN]:
                selection = self._held_out(name, num_held_out, progress)
                if len(selection.chosen) < self._min_pairs(name):
                    self._prepared.give_back(name)
                else:
                    selections[name] = selection
                progress.advance(0, note=name)
            return self._training(progress) | selections

    def _min_pairs(self, name: str) -> int:
        """Return the fewest pairs of a held-out set; a dev set whose share was asked for may have any number."""
        if name.startswith("test"):
            return MIN_TEST_PAIRS
        return MIN_DEV_PAIRS if self.config.dev_share is None else 0

    def _split(self, name: str) -> Split:
        """Return the split that a set's pairs are sampled from."""
        rows, meaning = self._prepared.rows_of_set[name], self._prepared.meaning
        texts, best = [row.text for row in rows], self._best_positive
        return Split(
            features=Features(
                rows,
                self._prepared.corpus.tfidf.transform(texts),
                self._vectors.of(texts) if self._vectors else None,
                meaning.contradictory,
            ),
            links_L2=meaning.links.among(texts) if meaning.links else None,
            best_positive_N=np.array([best[text] for text in texts]) if best else None,
            config=self.config,
        )

    def _best_positives(self, vectors: Vectors) -> dict[str, float]:
        """Return the baseline's highest score of each text with another one of the same meaning, which any set has."""
        links, all_rows = self._prepared.meaning.links, self._prepared.rows
        texts, groups = zip(*((row.text, row.group) for row in all_rows), strict=True)
        best_N = best_positive(vectors.of(texts), codes(groups), links.among(texts) if links else None)
        return dict(zip(texts, best_N.tolist(), strict=True))

    def _completed(self, target: Target) -> Target:
        """Return the target with labels, weights and category relations filled in."""
        if not target.is_labelled:
            selector = Selector(self._split(_TRAIN), self._rng)
            candidates = selector.unmatched((target.band, target.band), _CANDIDATES_FOR_LABELS)
            target = impute(target, candidates, self._rng)
        source, same_category = self._prepared.category_source, self.config.same_category
        return settle_same_category(without_shortcut(target), source, same_category, self._rng)

    def _held_out(self, name: str, num_pairs: int, progress: Progress) -> Selection:
        split = self._split(name)
        selection = Selector(split, self._rng, progress.advance).matched(num_pairs, self.band, self.target)
        if self.target is None and self.config.band is None and len(selection.chosen) < MIN_DEV_PAIRS:
            # A set may have other pairs, rather than too few to say anything.
            return Selector(split, self._rng).matched(num_pairs, WHOLE, None)
        if self.target is None or not name.startswith("dev") or len(selection.chosen) >= MIN_DEV_PAIRS:
            return selection
        # A test set is as hard as the target or it is absent. A dev set may be easier, rather than too small to use.
        easier = Selector(split, self._rng).matched(num_pairs, self.config.band or DEFAULT_BAND, None)
        if len(easier.chosen) < MIN_DEV_PAIRS:
            return selection
        self.unlike_target.append(name)
        return easier

    def _training(self, progress: Progress) -> dict[str, Selection]:
        config, num_pairs = self.config, self._prepared.num_wanted
        selector = Selector(self._split(_TRAIN), self._rng, progress.advance)
        if config.strategy == "bands":
            return {"pairs": selector.banded((config.positive_band, config.negative_band), num_pairs)}
        if config.strategy == "matched":
            return {"pairs": selector.tiered(num_pairs, self.band, self.target)}
        phases = selector.curriculum(num_pairs, self.band, self.target)
        # Of very few pairs, all phases are the hard one.
        whole = joined(phases if phases[0] is not phases[-1] else phases[:1])
        return {"pairs": whole, **{f"phase{i}": phase for i, phase in enumerate(phases, 1)}}


def _pairs(rows: Sequence[Document], selection: Selection, *, with_groups: bool) -> list[Pair]:
    chosen = selection.chosen
    columns = chosen.a_C, chosen.b_C, chosen.tfidf_C, chosen.is_positive_C, chosen.is_same_category_C
    rows_of_pairs = zip(*(column.tolist() for column in columns), selection.tiers, strict=True)
    return [
        Pair(
            text_a=a.text,
            text_b=b.text,
            label=int(is_positive),
            group_a=a.group if with_groups else None,
            group_b=b.group if with_groups else None,
            tfidf=round(tfidf, 4),
            same_category=is_same if None not in (a.category, b.category) else None,
            tier=tier,
        )
        for index_a, index_b, tfidf, is_positive, is_same, tier in rows_of_pairs
        for a, b in [(rows[index_a], rows[index_b])]
    ]


def _require_enough(num_pairs: int, config: MineConfig, band: Band, prepared: _Prepared) -> None:
    num_wanted = prepared.num_wanted
    if num_pairs >= 2 * (num_wanted // 2) or (num_pairs and not config.require):
        return
    where = f"({config.strategy})"
    if config.strategy == "curriculum" or config.band:
        where = f"with a TF-IDF cosine in {band[0]:.3g}-{band[1]:.3g} {where}"
    remedies = ["more documents per group", "more groups"]
    # Where every positive pair was taken, another band has no more.
    if config.band and 2 * num_positives(prepared.rows_of_set[_TRAIN], prepared.meaning) > num_pairs:
        remedies.insert(0, "a wider band")
    need = repetition(prepared.meaning, prepared.repeated) or f"need {', '.join(remedies[:-1])}, or {remedies[-1]}"
    if num_contradictions := prepared.corpus.contradictions.num_texts:
        need += f" ({num_contradictions:,} texts are in several groups, which make no negative pairs with each other)"
    if num_pairs == 0:
        raise InputError(f"got no pairs of both classes {where}, {need}")
    got = f"got documents that yield {num_pairs:,} of {num_wanted:,} pairs {where}"
    raise InputError(f"{got}, {need}, fewer pairs, or no --require to accept those")


def write_mined(mined: Mined, folder: Path) -> None:
    """Write each set as ``<name>.jsonl`` into the folder, and the triplets if there are any."""
    for name, pairs in mined.sets.items():
        write_pairs(folder / f"{name}.jsonl", pairs)
    if mined.triplets:
        write_triplets(folder / "triplets.jsonl", mined.triplets)
