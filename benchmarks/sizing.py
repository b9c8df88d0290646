"""Size a job of a billion pairs: cores, hours and the order of magnitude of its costs, each from a measured rate.

Nothing is measured here. The rates are those of docs/log.md and docs/results.md, the hours those of
`scale_simulation.py`. Writes the section of docs/deployment.md.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from results_file import replace_section, table
from scale_simulation import CONDITIONS, PLANS, REPEATS, SHARDS, START_S

PAIRS = 1_000_000_000
CORES_PER_WORKER = 2
DOLLARS_PER_CORE_HOUR = 0.05
"""Assumption, of the order of what clouds charge on demand for a core with 4 GiB of memory."""
CONDITION = "spot every 4 hours, and 2 % slow"


@dataclass(frozen=True, slots=True)
class Rate:
    """Pairs per second that were measured on two cores, and by what."""

    encoder: str
    pairs_per_second: float
    source: str


_BULK = "`bulk_scoring.py --pairs 60000`, 7f110f0"
_SERVICE = "`serving_throughput.py`, 8 clients of 32 pairs, 0414fe0"
RATES = (
    Rate("MiniLM, bf16, generated pairs of two short sentences", 1113, _BULK),
    Rate("MiniLM, int8, texts of STS", 1165, _SERVICE),
    Rate("MiniLM, bf16, texts of STS", 1011, _SERVICE),
    Rate("MiniLM, fp32, texts of STS", 589, _SERVICE),
    Rate("MPNet, int8, texts of STS", 213, _SERVICE),
    Rate("MPNet, bf16, texts of STS", 171, _SERVICE),
    Rate("MPNet, fp32, texts of STS", 85, _SERVICE),
    Rate("MiniLM, bf16, texts of 1 to 256 words", 183, "`serving_endurance.py`, 200,000 pairs, 09517a7"),
)


def main() -> None:
    """Compute all rows, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/deployment.md"))
    args = parser.parse_args()
    plans = {"Indexed Job": "Indexed Job, 1,000 parts of 10 shards", "Ray": "Ray: each actor takes the next shard"}
    header = [
        "encoder, pairs",
        "pairs/s",
        "core-hours",
        *(f"hours, {plan}" for plan in plans),
        "dollars",
        "measured by",
    ]
    rows = [
        [
            rate.encoder,
            f"{rate.pairs_per_second:,}",
            f"{core_hours(rate):,.0f}",
            *(f"{hours(rate, plan):.1f}" for plan in plans.values()),
            f"{float(f'{core_hours(rate) * DOLLARS_PER_CORE_HOUR:.1g}'):,.0f}",
            rate.source,
        ]
        for rate in RATES
    ]
    replace_section(args.out, "sizing", f"```\npython benchmarks/sizing.py\n```\n\n{table(header, rows)}")


def core_hours(rate: Rate) -> float:
    """Return the hours that a billion pairs take one core that always computes."""
    return PAIRS / rate.pairs_per_second * CORES_PER_WORKER / 3600


def hours(rate: Rate, plan: str) -> float:
    """Return the mean duration of the simulated job, in hours."""
    shard_s = PAIRS / SHARDS / rate.pairs_per_second
    outcomes = [PLANS[plan].simulate(CONDITIONS[CONDITION], shard_s, START_S, seed) for seed in range(REPEATS)]
    return mean(outcome.hours for outcome in outcomes)


if __name__ == "__main__":
    main()
