"""Simulate 10,000 shards on 200 workers that are slow, fail or are evicted, for each way to deal the shards out.

Only the seconds per shard and per start are measured elsewhere (docs/scale.md); all else follows from them. Writes the
section of docs/scale.md.
"""

import argparse
import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
from results_file import replace_section, table

SHARDS, WORKERS, REPEATS = 10_000, 200, 10
SHARD_S = 143.0
"""Seconds per shard on a usual worker: 100,000 pairs at 700 pairs per second."""
START_S = 40.0
"""Seconds from the loss of a worker, or the end of a pod, until the next one scores."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What makes the workers and the shards differ."""

    spread: float = 0.1
    """Standard deviation of the logarithm of a shard's time: how unequal shards are."""
    slow_share: float = 0.0
    slowness: float = 3.0
    """Share of the workers that are slow, and how many times as long these take."""
    losses_per_hour: float = 0.0
    """Failures and evictions per hour of a worker; the shard that it works on is lost, finished parts are not."""
    big_shards: int = 0
    """Shards that are ten times as large as the others."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A simulated job."""

    hours: float
    lost_share: float
    """Share of the computing time that went into shards that were lost."""
    idle_share: float
    """Share of the workers' time until the end without work, starts included."""


CONDITIONS: Mapping[str, Conditions] = {
    "equal workers": Conditions(),
    "2 % of the workers three times as slow": Conditions(slow_share=0.02),
    "ten shards of ten times the size": Conditions(big_shards=10),
    "5 failures per 1,000 hours": Conditions(losses_per_hour=0.005),
    "spot: an eviction every 4 hours": Conditions(losses_per_hour=0.25),
    "spot: an eviction every 20 minutes": Conditions(losses_per_hour=3.0),
    "spot every 4 hours, and 2 % slow": Conditions(losses_per_hour=0.25, slow_share=0.02),
}


def main() -> None:
    """Simulate all conditions, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/scale.md"))
    parser.add_argument("--shard-s", type=float, default=SHARD_S, help="seconds per shard (default: %(default)s)")
    parser.add_argument("--start-s", type=float, default=START_S, help="seconds per start (default: %(default)s)")
    args = parser.parse_args()
    rows = []
    for name, conditions in CONDITIONS.items():
        for plan_name, plan in PLANS.items():
            outcomes = [plan.simulate(conditions, args.shard_s, args.start_s, seed) for seed in range(REPEATS)]
            hours = [outcome.hours for outcome in outcomes]
            rows.append(
                [
                    name,
                    plan_name,
                    f"{mean(hours):.2f} ({min(hours):.2f} to {max(hours):.2f})",
                    f"{mean(outcome.lost_share for outcome in outcomes):.1%}",
                    f"{mean(outcome.idle_share for outcome in outcomes):.1%}",
                ]
            )
    ideal = SHARDS * args.shard_s / WORKERS / 3600
    about = (
        f"{SHARDS:,} shards of {args.shard_s:g} s on {WORKERS} workers, {REPEATS} simulations each; without any loss, "
        f"idleness or difference, they take {ideal:.2f} hours. A start takes {args.start_s:g} s."
    )
    header = ["condition", "how shards are dealt out", "hours (range)", "work lost", "workers idle"]
    command = "```\npython benchmarks/scale_simulation.py\n```"
    replace_section(args.out, "scale-simulation", f"{command}\n\n{about}\n\n{table(header, rows)}")


@dataclass(frozen=True, slots=True)
class Plan:
    """How the shards are dealt out: in parts, of which each worker takes the next one."""

    num_parts: int
    is_pod: bool = True
    """Whether a part is a pod of its own, which has to start; the next pod of a lost one does the rest of the part."""

    def simulate(self, conditions: Conditions, shard_s: float, start_s: float, seed: int) -> Outcome:
        """Return the outcome of one random job."""
        rng = np.random.default_rng(seed)
        seconds_S = shard_s * np.exp(rng.normal(-(conditions.spread**2) / 2, conditions.spread, SHARDS))
        seconds_S[rng.choice(SHARDS, conditions.big_shards, replace=False)] *= 10
        slowness_W = np.ones(WORKERS)
        slowness_W[: round(conditions.slow_share * WORKERS)] = conditions.slowness
        # The shards of a part lie apart, so that those of one large file do not meet in one part.
        parts = [[*range(part, SHARDS, self.num_parts)] for part in range(self.num_parts)]
        events: list[tuple[float, int, list[int]]] = [
            (0.0 if self.is_pod else start_s, worker, []) for worker in range(WORKERS)
        ]
        busy_s = lost_s = end_s = 0.0
        while events:
            now, worker, part = heapq.heappop(events)
            if not part:
                if not parts:
                    continue
                part = parts.pop()
                now += start_s if self.is_pod else 0.0
            needed_s = float(seconds_S[part[-1]] * slowness_W[worker])
            # Losses come at random and have no memory, so each shard may draw its own.
            rate = conditions.losses_per_hour / 3600
            until_loss_s = rng.exponential(1 / rate) if rate else np.inf
            if until_loss_s < needed_s:
                busy_s, lost_s = busy_s + until_loss_s, lost_s + until_loss_s
                if not self.is_pod:
                    parts.append(part)
                heapq.heappush(events, (now + until_loss_s + start_s, worker, part if self.is_pod else []))
                continue
            busy_s, end_s = busy_s + needed_s, max(end_s, now + needed_s)
            heapq.heappush(events, (now + needed_s, worker, part[:-1]))
        return Outcome(end_s / 3600, lost_s / busy_s, 1 - busy_s / (WORKERS * end_s))


PLANS: Mapping[str, Plan] = {
    "Ray: each actor takes the next shard": Plan(SHARDS, is_pod=False),
    "Indexed Job, 200 parts of 50 shards": Plan(200),
    "Indexed Job, 1,000 parts of 10 shards": Plan(1000),
    "Indexed Job, 10,000 parts of one shard": Plan(SHARDS),
}


if __name__ == "__main__":
    main()
