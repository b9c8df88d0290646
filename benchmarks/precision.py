"""Measure what each precision of a bundle's graph costs and gives: scores, order, time per batch, size and memory.

Each precision runs in a process of its own, one after the other, on one core.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import GUARD, SIMILE, TESTS, place_parser, run
from results_file import commit, machine, replace_section, table

from simile.artifacts import read_labelled_pairs
from simile.scoring import Encoder, load
from simile.scoring.metrics import spearman
from simile.scoring.provider import open_session

PRECISIONS = ("fp32", "bf16", "int8")
BATCHES = {"1 x 14": [14], "2 x 14": [14] * 2, "32 x 14": [14] * 32, "32 x 8 to 40": [], "8 x 128": [128] * 8}
"""Texts and tokens per text."""
_ROUNDS = 15


def main() -> None:
    """Measure the bundle at each precision, and write the section."""
    parser = place_parser(__doc__)
    parser.add_argument("--base", default="bundled:minilm", help="the untouched encoder (default: %(default)s)")
    parser.add_argument("--bundle", type=Path, help="a bundle to measure in place of the untouched encoder")
    parser.add_argument("--corpora", nargs="+", default=["clinc150"])
    parser.add_argument("--measure", choices=PRECISIONS, help="only print the figures of one precision, as JSON")
    args = parser.parse_args()
    bundle = args.bundle or args.work / "precision" / args.base.rpartition(":")[2]
    if not bundle.is_dir():
        run([*SIMILE, "baseline", args.base, "--out", bundle])
    sets = {GUARD: args.data / GUARD / "test.jsonl.gz"}
    for corpus in args.corpora:
        sets |= {f"{corpus} {test}": args.data / corpus / f"{test}.jsonl.gz" for test in TESTS}
    if args.measure:
        print(json.dumps(measure(bundle, args.measure, sets)))
        return
    figures = {}
    for precision in PRECISIONS:
        command = [sys.executable, __file__, *sys.argv[1:], "--measure", precision]
        figures[precision] = json.loads(_output_of(command))
    name = "precision-" + (args.bundle.name if args.bundle else args.base.rpartition(":")[2])
    replace_section(args.out, name, section(figures, args.base if not args.bundle else args.bundle.name))


def _output_of(command: list[str]) -> str:
    print(f"$ {' '.join(command)}", file=sys.stderr, flush=True)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(bundle: Path, precision: str, sets: dict[str, Path]) -> dict[str, Any]:
    """Return the figures of one precision: scores and Spearman by set, milliseconds by batch, bytes, and memory."""
    # One core, as a batch has in the service.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    scorer = load(bundle, device="cpu", precision=precision)  # type: ignore[arg-type]
    (encoder,) = (member for member in scorer.members if isinstance(member, Encoder))
    scores, order = {}, {}
    for name, path in sets.items():
        pairs = read_labelled_pairs(path)
        score_P = scorer.score(pairs.texts)
        scores[name], order[name] = score_P.tolist(), spearman(score_P, pairs.target_P)
    texts = [text for pair in pairs.texts[:200] for text in pair]
    tokens = encoder.tokenize(texts)
    together_ND = encoder.embed_tokens(tokens)
    alone_ND = np.concatenate([encoder.embed_batch([text.ids]) for text in tokens])
    manifest = scorer.bundle.manifest.members[0]
    file = {"fp32": "model.onnx", "bf16": "model.fp16.onnx", "int8": "model.int8.onnx"}[precision]
    model = (bundle / "members" / manifest.name / file).read_bytes()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "scores": scores,
        "spearman": order,
        "batch": float(np.abs(together_ND - alone_ND).max()),
        "milliseconds": milliseconds(model, scorer.runtime),
        "bytes": len(model),
        "resident": resident,
    }


def milliseconds(model: bytes, runtime: Any) -> dict[str, float]:
    """Return the median time of each batch."""
    session, rng, times = open_session(model, runtime), np.random.default_rng(0), {}
    for name, given in BATCHES.items():
        lengths = np.array(given or rng.integers(8, 41, 32))
        ids_BT = rng.integers(1000, 20000, (len(lengths), lengths.max()))
        mask_BT = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        inputs, seconds = {"input_ids": ids_BT, "attention_mask": mask_BT}, []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            session.run(None, inputs)
            seconds.append(time.perf_counter() - start)
        times[name] = float(np.median(seconds)) * 1000
    return times


def section(figures: dict[str, dict[str, Any]], name: str) -> str:
    """Return the section: conditions, and tables of time and of scores."""
    exact = figures["fp32"]
    header = ["precision", *BATCHES, "graph, MB", "resident, MiB", "alone or in a batch"]
    times = [
        [
            precision,
            *(f"{ms:.1f} ({exact['milliseconds'][batch] / ms:.2f})" for batch, ms in one["milliseconds"].items()),
            f"{one['bytes'] / 1e6:.0f}",
            f"{one['resident'] / 2**20:,.0f}",
            f"{one['batch']:.0e}",
        ]
        for precision, one in figures.items()
    ]
    rows = []
    for of_set in exact["scores"]:
        for precision in PRECISIONS[1:]:
            gap_P = np.abs(np.subtract(figures[precision]["scores"][of_set], exact["scores"][of_set]))
            values = (gap_P.mean(), gap_P.max(), exact["spearman"][of_set], figures[precision]["spearman"][of_set])
            rows.append([of_set, precision, *(f"{value:.4f}" for value in values)])
    about = (
        f"Commit {commit()}, {name}, on one core of {machine()}. Median milliseconds per batch of texts x tokens (in "
        "parentheses: times fp32's speed), and the largest difference between a text's embedding alone and in a batch. "
        "Below: differences of the scores from those in fp32, and the Spearman correlation in fp32 and in the "
        "precision."
    )
    scores = table(["set", "precision", "mean difference", "largest", "Spearman, fp32", "Spearman"], rows)
    return f"{about}\n\n{table(header, times)}\n\n{scores}"


if __name__ == "__main__":
    main()
