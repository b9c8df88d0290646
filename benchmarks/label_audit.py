"""Flip 5 % of the labels of pairs, merge and split groups, and see what `simile labels audit` finds.

A stopped benchmark resumes from its results in --results.
"""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import SIMILE, Corpus, end_with_children, parser_of, run, write_jsonl
from results_file import origin, replace_section, result_file, table, write_result

from labelling.group_audit import GroupAudit, audit_groups
from simile.scoring import load

CORPORA = ("clinc150",)
SETS = ("dev", "test-seen")
BUNDLES = ("untouched", "tuned")
GROUPS = "groups"
"""Name of the result with the merged and split groups."""
SHARE = 0.05
SEED = 0
NUM_DRAWS = 5
"""Draws of groups that are merged and split."""
NUM_FIRST = 5
"""Entries of each list of groups that count as found."""
ABOUT = """\
5 % of the labels are flipped at random (dev: 177 of 3,532 pairs, test-seen: 200 of 4,000). The audit lists as many
pairs as there are flipped ones; a cell says how many of them are flipped ones. *Score alone* ranks the pairs by how
far the bundle's score is from the label. The tuned bundle is MiniLM by its preset, trained on the flipped dev pairs
without their groups: on dev, it has therefore seen the very labels that are audited, and on test-seen it has not. The
judge was chosen on dev, without groups; test-seen was audited once. In these corpora, a pair's label follows from its
groups, so the audit with groups has all the evidence there is; without them, it has only texts and the other labels."""


def main() -> None:
    """Measure the rows without a result, and write the section."""
    args = parser_of(__doc__, CORPORA).parse_args()
    end_with_children()
    for name in args.corpora:
        results = args.results / "label-audit" / name
        if not args.only_write:
            measure(Corpus(args.data / name), args.work / "label-audit" / name, results)
        write_section(args.out, name, results)


def measure(corpus: Corpus, work: Path, results: Path) -> None:
    """Audit the sets and the corpus' groups by both bundles, where there is no result."""
    untouched = work / "untouched"
    if not untouched.is_dir():
        run([*SIMILE, "baseline", "bundled:minilm", "--out", untouched])
    tuned = work / "tuned"
    if not tuned.is_dir():
        flip(corpus, "dev", work)
        run([*SIMILE, "train", "minilm", "--pairs", work / "dev.jsonl", "--out", tuned])
    for set_ in SETS:
        if not result_file(results, set_).is_file():
            num_flipped, num_pairs = flip(corpus, set_, work)
            nums = {name: num_found(work, set_, work / name, num_flipped) for name in BUNDLES}
            write_result(result_file(results, set_), {"pairs": num_pairs, "flipped": num_flipped, "found": nums})
    if not result_file(results, GROUPS).is_file():
        write_result(
            result_file(results, GROUPS),
            {"draws": [found_groups(corpus, untouched, SEED + i) for i in range(NUM_DRAWS)]},
        )


def flip(corpus: Corpus, set_: str, work: Path) -> tuple[int, int]:
    """Write the pairs with flipped labels, without their groups and with them; return how many, of how many."""
    rows = read(corpus.folder / f"{set_}.jsonl.gz")
    chosen = np.random.default_rng(SEED).choice(len(rows), round(SHARE * len(rows)), replace=False)
    for index in chosen:
        rows[index] |= {"label": 1 - rows[index]["label"], "flipped": True}
    texts = ("text_a", "text_b", "label")
    write_jsonl(work / f"{set_}.jsonl", ({name: row[name] for name in texts} for row in rows))
    write_jsonl(
        work / f"{set_}-groups.jsonl", ({name: row[name] for name in (*texts, "group_a", "group_b")} for row in rows)
    )
    write_jsonl(work / f"{set_}-flipped.jsonl", (row for row in rows if "flipped" in row))
    return len(chosen), len(rows)


def num_found(work: Path, set_: str, bundle: Path, num: int) -> dict[str, int]:
    """Return how many of the first pairs are flipped ones: by the score alone, and by both audits."""
    flipped = {(row["text_a"], row["text_b"]) for row in read(work / f"{set_}-flipped.jsonl")}
    plain, grouped, out = work / f"{set_}.jsonl", work / f"{set_}-groups.jsonl", work / "audit.jsonl"
    run([*SIMILE, "score", bundle, "--pairs", plain, "--out", out])
    lists = {"score alone": sorted(read(out), key=lambda row: -abs(row["label"] - row["score"]))}
    for name, pairs in (("without groups", plain), ("with groups", grouped)):
        run([*SIMILE, "labels", "audit", pairs, "--bundle", bundle, "--pairs", str(num), "--out", out])
        lists[name] = read(out)
    return {name: sum((row["text_a"], row["text_b"]) in flipped for row in rows[:num]) for name, rows in lists.items()}


def found_groups(corpus: Corpus, bundle: Path, seed: int) -> dict[str, list[int]]:
    """Merge two pairs of groups, split two groups at random; return the places of these in the lists, from 1."""
    rows = read(corpus.documents)
    rng = np.random.default_rng(seed)
    names = [str(name) for name in rng.permutation(sorted({row["group"] for row in rows}))]
    merged, split = {names[1]: names[0], names[3]: names[2]}, names[4:6]
    half = {name: f"{name} (second half)" for name in split}
    texts = []
    for row in rows:
        name = merged.get(row["group"], row["group"])
        texts.append((row["text"], half[name] if name in half and rng.random() < 0.5 else name))
    findings = audit_groups(texts, load(bundle))
    return {
        "split": places(findings, list(half.items())),
        "merged": places(findings, [(one, one) for one in merged.values()]),
    }


def places(findings: GroupAudit, wanted: Sequence[tuple[str, str]]) -> list[int]:
    """Return the place of each two groups, or of each group's two parts, in its list; 0 where it is not listed."""
    lists = {
        is_one: [{one.group_a, one.group_b} for one in entries]
        for is_one, entries in ((False, findings.alike), (True, findings.divided))
    }
    listed = [(lists[a == b], {a, b}) for a, b in wanted]
    return sorted(entries.index(ends) + 1 if ends in entries else 0 for entries, ends in listed)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL file, compressed or not."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return [json.loads(line) for line in file]


def write_section(path: Path, corpus: str, results: Path) -> None:
    """Write the corpus' section of the results."""
    files = {name: result_file(results, name) for name in (*SETS, GROUPS)}
    rows = {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}
    parts = [f"### Flipped labels on {corpus}", origin(rows.values())]
    parts += [f"```\npython benchmarks/label_audit.py --corpora {corpus} --data DIR\n```", ABOUT]
    sets = [name for name in SETS if name in rows]
    if sets:
        kinds = ("score alone", "without groups", "with groups")
        lines = [
            [name, bundle, str(rows[name]["flipped"]), *(str(rows[name]["found"][bundle][kind]) for kind in kinds)]
            for name in sets
            for bundle in BUNDLES
        ]
        parts.append(table(["set", "bundle", "flipped labels", "score alone", "audit without groups", "audit"], lines))
    if draws := rows.get(GROUPS, {}).get("draws"):
        parts += [f"### Merged and split groups on {corpus}", groups_told(draws)]
    replace_section(path, f"label-audit-{corpus}", "\n\n".join(parts))


def groups_told(draws: Sequence[dict[str, list[int]]]) -> str:
    """Return the table of the places of merged and split groups."""
    about = f"""\
In each draw, two pairs of random groups of the corpus get one name each, and two groups get two names each at random.
Their places in the lists of groups that look like one or two, by the untouched bundle; found is a place among the first
{NUM_FIRST}, and 0 is none:"""
    lines = [
        [str(number), *(", ".join(map(str, draw[kind])) for kind in ("split", "merged"))]
        for number, draw in enumerate(draws, 1)
    ]
    return f"{about}\n\n{table(['draw', 'split groups', 'merged groups'], lines)}"


if __name__ == "__main__":
    main()
