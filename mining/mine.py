"""Documents -> hard pairs: gather, leave out, split, choose.

Shape suffixes: N = documents, L = links.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mining.config import MineConfig
from mining.corpus.embeddings import Vectors
from mining.corpus.gather import Corpus, gather
from mining.corpus.meaning import Links, Meaning, known_pairs, with_meaning
from mining.corpus.split import distinct, split_documents
from mining.matching.bands import Band
from mining.matching.strategies import Found, Ground, banded, curriculum, matched, natural
from mining.matching.target import (
    KindSource,
    Target,
    categories_of_groups,
    check_target,
    impute,
    read_target,
    settle_kinds,
    without_shortcut,
)
from mining.matching.triplets import Triplet, triplets, write_triplets
from mining.sampling.candidates import num_looks
from mining.sampling.features import Candidates, Features, codes, join
from mining.sampling.label_noise import best_positive
from simile.artifacts import MIN_DEV_PAIRS, Document, Pair, PairSet, write_pairs
from simile.errors import InputError
from simile.progress import Progress
from simile.scoring import Scorer

_TRAIN = "train"
"""Documents that ``pairs`` and a curriculum's phases are drawn from; each held-out set has those of its own name."""
HELD_OUT_SHARE = 0.2
"""Pairs of each held-out set, as a share of the training pairs."""
MIN_HELD_OUT = 4000
"""... and at least this many, where the documents give them: small sets make wide intervals."""
DEFAULT_BAND = (0.05, 0.50)
MIN_DOCUMENTS = 40_000
"""Documents to mine from, where there are more: or two a pair wanted, which leaves each pair its own texts."""
_NATURAL = 5_000
"""Candidates of each class that a target without labels is compared with."""


@dataclass(frozen=True, slots=True)
class Mined:
    """The pairs of each set and what is known of them."""

    sets: dict[str, list[Pair]]
    """``pairs`` (for training), ``phase1`` to ``phase3`` of a curriculum (its parts), and the held-out sets."""
    triplets: list[Triplet]
    """Of the training pairs, where they were asked for."""
    facts: dict[str, Any]
    """For the report: documents, groups, what was dropped, the band."""
    target: Target | None
    vectors: Vectors | None
    """The baseline's, of every text in the sets and the target."""


def mine(
    documents: Iterable[Document],
    config: MineConfig,
    target: PairSet | None = None,
    *,
    held_out: Iterable[str] = (),
    positives: PairSet | None = None,
    baseline: Scorer | None = None,
) -> Mined:
    """Return pairs mined from the documents, for training and held out.

    Args:
        documents: with groups (or, noisily, with categories); any number, read once.
        config: what to mine.
        target: pairs whose distribution the mined ones follow; its texts are kept out.
        held_out: more texts to keep out, those of test pairs say.
        positives: pairs known to mean the same, in place of groups.
        baseline: whose cosines to follow in the target, and to find false negatives by.

    Raises:
        InputError: the documents cannot give the pairs.
    """
    if config.false_negatives in ("drop", "report") and baseline is None:
        raise InputError(f"got false negatives to {config.false_negatives}, need a baseline to find them by")
    known = known_pairs(positives) if positives else None
    if target:
        check_target(target)
    room = max(MIN_DOCUMENTS, 2 * config.pairs)
    corpus = gather(documents, room=room, seed=config.seed, always=known.keys if known else None)
    target_texts = [text for pair in target.texts for text in pair] if target else []
    meaning = with_meaning(corpus, known)
    rows, repeated = distinct(meaning.rows, [*target_texts, *held_out])
    split = split_documents(rows, dev_share=config.dev_share, test_share=config.test_share, seed=config.seed)
    vectors = Vectors(baseline, [*(row.text for row in rows), *target_texts]) if baseline else None
    goal = None
    if target:
        goal = read_target(target, corpus.tfidf, vectors, categories_of_groups(corpus.rows), band=config.band)
    grounds = _grounds(split, corpus, config, vectors, meaning.links)
    miner = _Miner(config, grounds, goal, _kind_source(rows, meaning))
    found = miner.mine()
    training = found["pairs"]
    # Texts of known pairs are among the rows whether they were read as documents or not.
    num_sampled = len(corpus.rows) if meaning.links else len(meaning.rows)
    _require_enough(len(training.chosen), config, miner.band)
    sets = {
        name: _pairs(split.get(name, split[_TRAIN]), part.chosen, with_groups=meaning.links is None)
        for name, part in found.items()
        # A held-out set too small for two classes judges nothing.
        if len(part.chosen)
    }
    facts = {
        "documents": corpus.num_read,
        "sampled": num_sampled,
        "not_sampled": corpus.num_read - meaning.num_without - num_sampled,
        "groups": len({row.group for row in rows}),
        "categories": len({row.category for row in rows if row.category is not None}),
        "cut": corpus.num_cut,
        "dropped": {"no category" if meaning.source == "categories" else "no group": meaning.num_without} | repeated,
        "labels": meaning.source,
        "band": list(miner.band),
        "wanted": config.pairs,
        "suspects": training.suspects.as_dict() if training.suspects else None,
        "unlike_target": miner.unlike_target,
        "split": {
            name: {"documents": len(members), "groups": len({row.group for row in members})}
            for name, members in split.items()
        },
    }
    asked = triplets(split[_TRAIN], training.chosen, training.pool) if config.format == "triplets" else []
    return Mined(sets, asked, facts, miner.target, vectors)


def _kind_source(rows: Sequence[Document], meaning: Meaning) -> KindSource:
    """Return what says of these documents' pairs whether they are of one category."""
    if all(row.category is None for row in rows):
        return "nothing"
    return "labels" if meaning.source == "categories" else "categories"


def _grounds(
    split: dict[str, tuple[Document, ...]],
    corpus: Corpus,
    config: MineConfig,
    vectors: Vectors | None,
    links: Links | None,
) -> dict[str, Ground]:
    """Return what each set's pairs are drawn from."""
    best: dict[str, float] = {}
    if vectors and config.false_negatives != "keep":
        best = _best_positives([row for rows in split.values() for row in rows], vectors, links)
    grounds = {}
    for name, rows in split.items():
        texts = [row.text for row in rows]
        grounds[name] = Ground(
            features=Features(rows, corpus.tfidf.transform(texts), vectors.of(texts) if vectors else None),
            links_L2=links.among(texts) if links else None,
            best_positive_N=np.array([best[text] for text in texts]) if best else None,
            drops_suspects=config.false_negatives in ("drop", None),
            same_category=config.same_category,
            max_uses=config.max_uses,
        )
    return grounds


def _best_positives(rows: Sequence[Document], vectors: Vectors, links: Links | None) -> dict[str, float]:
    """Return each text's highest cosine to another one that means the same, in whichever set that is."""
    texts = [row.text for row in rows]
    group_N = codes([row.group for row in rows])
    best_N = best_positive(vectors.of(texts), group_N, links.among(texts) if links else None)
    return dict(zip(texts, best_N.tolist(), strict=True))


class _Miner:
    """Mines set after set."""

    def __init__(
        self, config: MineConfig, grounds: dict[str, Ground], target: Target | None, kinds: KindSource
    ) -> None:
        self._config = config
        self._grounds = grounds
        self._rng = np.random.default_rng(config.seed)
        self.band: Band = target.band if target else config.band or DEFAULT_BAND
        self.target = self._completed(target, kinds) if target else None
        self.unlike_target: list[str] = []
        """Sets that could not follow the target."""

    def mine(self) -> dict[str, Found]:
        """Return what is found for each set: ``pairs``, a curriculum's phases, the held-out sets."""
        num_held_out = max(MIN_HELD_OUT, round(HELD_OUT_SHARE * self._config.pairs))
        wanted = {name: self._config.pairs if name == _TRAIN else num_held_out for name in self._grounds}
        total = sum(self._num_looks(name, num) for name, num in wanted.items())
        found: dict[str, Found] = {}
        with Progress("mining", total, "pairs looked at") as progress:
            for name, num in wanted.items():
                found |= (
                    self._training(num, progress) if name == _TRAIN else {name: self._held_out(name, num, progress)}
                )
                progress.advance(0, note=name)
        return found

    def _num_looks(self, name: str, num_pairs: int) -> int:
        num_times = 3 if name == _TRAIN and self._config.strategy == "curriculum" else 1
        return num_times * num_looks(len(self._grounds[name].features), num_pairs // 2 // num_times)

    def _completed(self, target: Target, kinds: KindSource) -> Target:
        """Return the target with all that it leaves open filled in."""
        if not target.is_labelled:
            target = impute(target, natural(self._grounds[_TRAIN], target.band, _NATURAL, self._rng), self._rng)
        return settle_kinds(without_shortcut(target), kinds, self._config.same_category, self._rng)

    def _matched(self, name: str, num_pairs: int, progress: Progress) -> Found:
        ground = self._grounds[name]
        return matched(ground, self.target, self.band, num_pairs, self._rng, on_progress=progress.advance)

    def _held_out(self, name: str, num_pairs: int, progress: Progress) -> Found:
        found = self._matched(name, num_pairs, progress)
        if self.target is None or not name.startswith("dev") or len(found.chosen) >= MIN_DEV_PAIRS:
            return found
        # What judges is as hard as the target or not there. What is to choose may be easier rather than silent.
        ground = self._grounds[name]
        band = self._config.band or DEFAULT_BAND
        alike = matched(ground, None, band, num_pairs, self._rng, on_progress=lambda num: None)
        if len(alike.chosen) < MIN_DEV_PAIRS:
            return found
        self.unlike_target.append(name)
        return alike

    def _training(self, num_pairs: int, progress: Progress) -> dict[str, Found]:
        config, ground = self._config, self._grounds[_TRAIN]
        if config.strategy == "matched":
            return {"pairs": self._matched(_TRAIN, num_pairs, progress)}
        if config.strategy == "bands":
            bands = config.positive_band, config.negative_band
            return {"pairs": banded(ground, bands, num_pairs, self._rng, on_progress=progress.advance)}
        phases = curriculum(ground, self.target, self.band, num_pairs, self._rng, on_progress=progress.advance)
        return {"pairs": _all_of(phases), **{f"phase{i}": phase for i, phase in enumerate(phases, 1)}}


def _all_of(phases: Sequence[Found]) -> Found:
    """Return the phases as one set, easy pairs first."""
    return Found(
        join([phase.chosen for phase in phases]),
        join([phase.pool for phase in phases]),
        None,
    )


def _pairs(rows: Sequence[Document], chosen: Candidates, *, with_groups: bool) -> list[Pair]:
    return [
        Pair(
            text_a=rows[a].text,
            text_b=rows[b].text,
            label=int(is_positive),
            group_a=rows[a].group if with_groups else None,
            group_b=rows[b].group if with_groups else None,
            tfidf=round(float(tfidf), 4),
            same_category=bool(is_same) if None not in (rows[a].category, rows[b].category) else None,
        )
        for a, b, tfidf, is_positive, is_same in zip(
            chosen.a_C, chosen.b_C, chosen.tfidf_C, chosen.is_positive_C, chosen.is_same_category_C, strict=True
        )
    ]


def _require_enough(num_found: int, config: MineConfig, band: Band) -> None:
    """Refuse too few training pairs."""
    where = f"({config.strategy})"
    if config.strategy != "bands":
        where = f"with a TF-IDF cosine in {band[0]:.3g}-{band[1]:.3g} {where}"
    remedy = "a wider band, more documents a group, or more groups"
    if num_found == 0:
        raise InputError(f"got no pairs of both classes {where}, need {remedy}")
    if num_found < 2 * (config.pairs // 2) and not config.allow_fewer:
        raise InputError(
            f"got documents that give {num_found:,} of {config.pairs:,} pairs {where}, "
            f"need {remedy}, fewer pairs, or --allow-fewer (in a run mine.allow_fewer) to take those"
        )


def write_mined(mined: Mined, folder: Path) -> None:
    """Write each set as ``<name>.jsonl`` into the folder, and the triplets, where there are some."""
    for name, pairs in mined.sets.items():
        write_pairs(folder / f"{name}.jsonl", pairs)
    if mined.triplets:
        write_triplets(folder / "triplets.jsonl", mined.triplets)
