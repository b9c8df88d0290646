"""Write any number of synthetic documents with the word frequencies and lengths of real ones.

The words of a source keep their frequencies; made-up words continue them along the curve of large corpora, so that the
vocabulary grows with the number of documents as in real text. Each document mixes common words with words of its
category and of its group, so that documents of one group share more words than others.
"""

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import write_jsonl
from numpy.typing import NDArray
from target_pairs import target_pairs

from simile.artifacts.reading import read_rows
from simile.scoring import words

SOURCE = Path(__file__).parent.parent / "examples" / "helpdesk" / "documents.jsonl"
BATCH = 20_000
MIN_DOCUMENTS = 1000
"""Minimum number of documents; fewer would have too few groups per category."""

# Word frequencies beyond the source fall as 1/rank, and faster from rank `BEND` on. Large collections show two such
# regimes (Gerlach & Altmann 2013, Physical Review X 3, 021006); both constants are rounded.
BEND, TAIL = 8000, 1.8
TRUSTED = 5
"""Minimum number of occurrences for which a word keeps its frequency in the source."""
SYLLABLES = ["".join(letters) for letters in itertools.product("bcdfghjklmnprstvwxyz", "aeiou")]

GROUP_SIZE = (20, 200)
CATEGORIES = (10, 50)
CATEGORY_WORDS, GROUP_WORDS = 60, 15
CATEGORY_SHARE, GROUP_SHARE = 0.10, 0.20
"""Shares of a document's words that are drawn from its category's and its group's words."""
TOPIC_RANKS = (50, 10_000)
"""Range of the ranks of topic words: neither the most common words nor the rarest."""


@dataclass(frozen=True, slots=True)
class Language:
    """Words by rank, the cumulative frequencies of common words, and the lengths of texts."""

    words: list[str]
    cumulative: NDArray[np.float64]
    lengths: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class World:
    """The groups, and the words of their topics."""

    sizes: NDArray[np.int64]
    """Number of documents per group."""
    category_of_group: NDArray[np.int64]
    category_words: NDArray[np.int64]
    """Ranks of each category's topic words, one row per category."""
    group_words: NDArray[np.int64]


def main() -> None:
    """Write the documents and, if requested, target pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("num", type=int, metavar="N", help=f"at least {MIN_DOCUMENTS:,}")
    parser.add_argument("out", type=Path, metavar="OUT", help=".jsonl or .jsonl.gz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--source", type=Path, default=SOURCE, metavar="FILE", help="JSONL (default: the sample corpus)"
    )
    parser.add_argument("--target", type=Path, metavar="FILE", help="labelled pairs of other documents of these groups")
    parser.add_argument("--target-pairs", type=int, default=4000, metavar="N")
    args = parser.parse_args()
    if args.num < MIN_DOCUMENTS:
        parser.error(f"got {args.num} documents, need at least {MIN_DOCUMENTS}")
    language = language_of(row.fields["text"] for row in read_rows(args.source))
    # Each part has its own generator, so that the target does not change the documents.
    world_rng, documents_rng, target_rng = np.random.default_rng(args.seed).spawn(3)
    world = make_world(args.num, world_rng)
    write_jsonl(args.out, draw_documents(world, language, args.num, documents_rng))
    if args.target:
        groups = target_groups(world)
        texts = draw_texts(groups, world, language, target_rng)
        pairs = target_pairs(texts, groups, world.category_of_group[groups], args.target_pairs, target_rng)
        write_jsonl(args.target, pairs)
        print(f"{len(pairs):,} target pairs", file=sys.stderr)


def language_of(texts: Iterable[str]) -> Language:
    """Return the words of the texts, continued by made-up words, and the lengths of the texts."""
    split = [words(text) for text in texts]
    counts = Counter(word for words_of_text in split for word in words_of_text)
    made_up = ("".join(parts) for parts in itertools.product(SYLLABLES, repeat=3))
    # The order by count and name is the same on every machine.
    known = sorted(counts, key=lambda word: (-counts[word], word))
    vocabulary = known + [word for word in made_up if word not in counts]
    trusted = np.array([counts[word] for word in known if counts[word] >= TRUSTED], dtype=np.float64)
    if not len(trusted):
        sys.exit(f"got a source in which no word occurs {TRUSTED} times, need more text")
    curve = zipf_curve(np.arange(len(trusted), len(vocabulary) + 1))
    frequencies = np.concatenate([trusted, trusted[-1] * curve[1:] / curve[0]])
    common = without_topics(frequencies / frequencies.sum())
    lengths = np.array([len(words_of_text) for words_of_text in split if words_of_text])
    return Language(vocabulary, np.cumsum(common / common.sum()), lengths)


def zipf_curve(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the relative frequencies of words at these ranks."""
    return np.where(ranks < BEND, 1 / ranks, BEND ** (TAIL - 1) * ranks.astype(np.float64) ** -TAIL)


def without_topics(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the frequencies minus the share that topic words contribute, so that the total stays the same."""
    low, high = TOPIC_RANKS
    ranks = np.arange(1, len(frequencies) + 1)
    of_topics = (CATEGORY_SHARE + GROUP_SHARE) / (ranks * np.log(high / low))
    return np.where((ranks >= low) & (ranks < high), np.maximum(frequencies - of_topics, 0), frequencies)


def make_world(num: int, rng: np.random.Generator) -> World:
    """Return groups with this many documents in total."""
    low, high = np.log(GROUP_SIZE)
    sizes = np.exp(rng.uniform(low, high, size=num // GROUP_SIZE[0] + 1)).astype(np.int64)
    num_groups = int(np.searchsorted(np.cumsum(sizes), num)) + 1
    num_categories = int(np.clip(num_groups // 10, *CATEGORIES))
    return World(
        sizes[:num_groups],
        rng.integers(num_categories, size=num_groups),
        _topic_words(num_categories, CATEGORY_WORDS, rng),
        _topic_words(num_groups, GROUP_WORDS, rng),
    )


def _topic_words(num: int, num_words: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return ranks drawn uniformly in their logarithm, as `without_topics` assumes."""
    low, high = np.log(TOPIC_RANKS)
    return np.exp(rng.uniform(low, high, size=(num, num_words))).astype(np.int64)


def draw_documents(world: World, language: Language, num: int, rng: np.random.Generator) -> Iterator[dict[str, str]]:
    """Yield the documents, with the groups in random order."""
    group_of = rng.permutation(np.repeat(np.arange(len(world.sizes)), world.sizes)[:num])
    for start in range(0, num, BATCH):
        groups = group_of[start : start + BATCH]
        for number, (group, text) in enumerate(
            zip(groups, draw_texts(groups, world, language, rng), strict=True), start
        ):
            category = f"c{world.category_of_group[group]}"
            yield {"id": str(number), "text": text, "category": category, "group": f"g{group}"}


def draw_texts(groups: NDArray[np.int64], world: World, language: Language, rng: np.random.Generator) -> list[str]:
    """Return a text per group (T: the words of all texts, concatenated)."""
    lengths = rng.choice(language.lengths, size=len(groups))
    ends = np.cumsum(lengths)
    group_T = np.repeat(groups, lengths)
    source_T, draw_T = rng.random(len(group_T)), rng.random(len(group_T))
    of_group_T = world.group_words[group_T, _zipf_place(draw_T, GROUP_WORDS)]
    of_category_T = world.category_words[world.category_of_group[group_T], _zipf_place(draw_T, CATEGORY_WORDS)]
    # Rounding may leave the last cumulative frequency below 1.
    common_T = np.minimum(np.searchsorted(language.cumulative, draw_T, side="right"), len(language.words) - 1)
    rank_T = np.select(
        [source_T < GROUP_SHARE, source_T < GROUP_SHARE + CATEGORY_SHARE], [of_group_T, of_category_T], common_T
    )
    words = [language.words[rank] for rank in rank_T.tolist()]
    return [" ".join(words[end - length : end]) for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]


def _zipf_place(draw_T: NDArray[np.float64], num: int) -> NDArray[np.int64]:
    """Return places in a list of ``num`` words, with a probability of about 1 / (place + 1)."""
    return ((num + 1) ** draw_T).astype(np.int64) - 1


def target_groups(world: World) -> NDArray[np.int64]:
    """Return the groups of the target's documents: 30 each for up to 20 groups of 10 categories."""
    chosen = [np.flatnonzero(world.category_of_group == category)[:20] for category in range(CATEGORIES[0])]
    return np.repeat(np.concatenate(chosen), 30)


if __name__ == "__main__":
    main()
