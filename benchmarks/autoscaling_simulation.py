"""Simulate the service's autoscaler on five shapes of load: the KEDA component's triggers, and waiting tokens alone.

The algorithm is that of Kubernetes' HorizontalPodAutoscaler with external metrics: the largest of the triggers'
recommendations, a tolerance, the stabilization and the rate of scaling down. A replica serves its requests in turns and
refuses those beyond its admission budget. Writes the section of docs/results.md.
"""

import argparse
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from results_file import replace_section, table

SCALED_OBJECT = Path(__file__).parent.parent / "k8s" / "components" / "keda" / "scaledobject.yaml"
CAPACITY = 18_000.0
"""Tokens per second of a replica: MiniLM in bf16 on two cores."""
BUDGET_S = 1.0
"""Seconds of computing that may wait at a replica (docs/serving.md)."""
TOKENS_PER_REQUEST = 900
SCRAPE_S, POLL_S, WINDOW_S = 15, 15, 60
"""Seconds between two samples, between two decisions, and that a query looks back."""
START_S = 60
"""Seconds from a decision until a new replica is ready."""
TOLERANCE = 0.1
"""Deviation from the target that the autoscaler ignores."""
UPWARD_POD_LIMIT, UPWARD_FACTOR = 4, 2.0
"""The default limit of scaling up per 15 s: four replicas, or twice as many."""


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """Triggers and behaviour of a ScaledObject."""

    thresholds: Mapping[str, float]
    """The average per replica that each metric should have: `waiting_tokens`, `waiting_share` or `busy_share`."""
    min_replicas: int = 2
    max_replicas: int = 8
    stabilization_s: int = 300
    down_percent_per_minute: float = 100.0

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> "Autoscaler":
        """Return what the ScaledObject says; each trigger's name is that of its metric here."""
        spec = manifest["spec"]
        down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
        percents = [policy["value"] for policy in down.get("policies", ()) if policy["periodSeconds"] == 60]
        return cls(
            thresholds={trigger["name"]: float(trigger["metadata"]["threshold"]) for trigger in spec["triggers"]},
            min_replicas=spec["minReplicaCount"],
            max_replicas=spec["maxReplicaCount"],
            stabilization_s=down["stabilizationWindowSeconds"],
            down_percent_per_minute=percents[0] if percents else 100.0,
        )


@dataclass(slots=True)
class Outcome:
    """What happened under a load."""

    replicas: list[int] = field(default_factory=list)
    """The number of replicas that are ready, by second."""
    arrived: float = 0.0
    refused: float = 0.0
    wait_s: list[float] = field(default_factory=list)
    """The seconds that a request waits which arrives then, by second."""

    @property
    def changes_per_hour(self) -> float:
        """Changes of the number of replicas per hour."""
        return sum(a != b for a, b in zip(self.replicas, self.replicas[1:], strict=False)) * 3600 / len(self.replicas)

    @property
    def refused_share(self) -> float:
        """Share of the tokens that were refused."""
        return self.refused / self.arrived

    @property
    def p99_s(self) -> float:
        """The 99th percentile of the wait, over seconds."""
        return float(np.percentile(self.wait_s, 99))


@dataclass(slots=True)
class Cluster:
    """The replicas, and the autoscaler that sets their number."""

    autoscaler: Autoscaler
    ready: int
    starting: deque[int] = field(default_factory=deque)
    """The times at which replicas become ready."""
    held: float = 0.0
    """Tokens of the requests that wait for an answer."""
    computed: float = 0.0
    samples: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=WINDOW_S // SCRAPE_S))
    """Held and computed tokens at each scrape."""
    recommended: deque[int] = field(default_factory=deque)
    decided: deque[int] = field(default_factory=lambda: deque(maxlen=60 // POLL_S))
    """The wanted numbers of replicas of the last minute."""

    def serve(self, now: int, arrived: float) -> float:
        """Serve for a second; return the tokens that are refused."""
        while self.starting and self.starting[0] <= now:
            self.starting.popleft()
            self.ready += 1
        capacity = self.ready * CAPACITY
        taken = min(arrived, max(0.0, capacity * (1 + BUDGET_S) - self.held))
        done = min(self.held + taken, capacity)
        self.held += taken - done
        self.computed += done
        if now % SCRAPE_S == 0:
            # Requests that are being computed count as held, too.
            self.samples.append((self.held + done / 4, self.computed))
        return arrived - taken

    def scale(self, now: int) -> None:
        """Decide on the number of replicas, as the autoscaler does every `POLL_S`."""
        if len(self.samples) < 2:
            return
        wanted = self.ready + len(self.starting)
        self.recommended.append(self._recommendation(wanted))
        while len(self.recommended) > max(1, self.autoscaler.stabilization_s // POLL_S):
            self.recommended.popleft()
        decision = self.recommended[-1] if self.recommended[-1] >= wanted else min(wanted, max(self.recommended))
        decision = min(decision, max(wanted + UPWARD_POD_LIMIT, int(wanted * UPWARD_FACTOR)))
        down = 1 - self.autoscaler.down_percent_per_minute / 100
        decision = max(decision, math.ceil(max(self.decided, default=wanted) * down), self.autoscaler.min_replicas)
        decision = min(decision, self.autoscaler.max_replicas)
        self.decided.append(decision)
        self.starting.extend([now + START_S] * (decision - wanted))
        for _ in range(wanted - decision):
            if self.starting:
                self.starting.pop()
            else:
                self.ready -= 1

    def _recommendation(self, wanted: int) -> int:
        """Return the largest number of replicas that a trigger recommends."""
        span_s = (len(self.samples) - 1) * SCRAPE_S
        held = sum(held for held, _ in self.samples) / len(self.samples)
        totals = {
            "waiting_tokens": held,
            "waiting_share": held / (CAPACITY * BUDGET_S),
            "busy_share": (self.samples[-1][1] - self.samples[0][1]) / span_s / CAPACITY,
        }
        return max(
            wanted if abs(totals[name] / (threshold * wanted) - 1) <= TOLERANCE else math.ceil(totals[name] / threshold)
            for name, threshold in self.autoscaler.thresholds.items()
        )


def simulate(autoscaler: Autoscaler, load: Callable[[int], float], seconds: int, seed: int = 0) -> Outcome:
    """Return the outcome of a load, in replicas' capacities by second."""
    rng, outcome = np.random.default_rng(seed), Outcome()
    cluster = Cluster(autoscaler, autoscaler.min_replicas)
    for now in range(seconds):
        arrived = TOKENS_PER_REQUEST * float(rng.poisson(load(now) * CAPACITY / TOKENS_PER_REQUEST))
        outcome.arrived += arrived
        outcome.refused += cluster.serve(now, arrived)
        outcome.replicas.append(cluster.ready)
        outcome.wait_s.append(cluster.held / (cluster.ready * CAPACITY))
        if now % POLL_S == 0:
            cluster.scale(now)
    return outcome


HOUR = 3600
SHAPES: Mapping[str, tuple[int, Callable[[int], float]]] = {
    "steady: 4.2 replicas": (3 * HOUR, lambda second: 4.2),
    "ramp: 1 to 7 in an hour, and back": (2 * HOUR, lambda second: 1 + 6 * (1 - abs(second / HOUR - 1))),
    "step: 1.5 to 5 after half an hour": (2 * HOUR, lambda second: 1.5 if second < HOUR / 2 else 5.0),
    "sawtooth: 1 to 5 every 20 minutes": (3 * HOUR, lambda second: 1 + 4 * (second % 1200) / 1200),
    "day and night: 0.4 to 6": (24 * HOUR, lambda second: 3.2 - 2.8 * math.cos(2 * math.pi * second / (24 * HOUR))),
}
"""The seconds of each load, and the load by second in replicas' capacities."""
BEFORE = Autoscaler({"waiting_tokens": 8192.0})
"""What the component had before: it looks at what waits, which is nothing whenever the replicas suffice."""


def main() -> None:
    """Simulate all shapes, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"))
    args = parser.parse_args()
    now = Autoscaler.from_manifest(yaml.safe_load(SCALED_OBJECT.read_text()))
    rows = []
    for shape, (seconds, load) in SHAPES.items():
        for name, autoscaler in {"waiting tokens alone": BEFORE, "as in the component": now}.items():
            outcome = simulate(autoscaler, load, seconds)
            rows.append(
                [
                    shape,
                    name,
                    f"{outcome.changes_per_hour:.1f}",
                    f"{outcome.refused_share:.2%}",
                    f"{outcome.p99_s:.2f} s",
                    f"{np.mean(outcome.replicas):.2f}",
                ]
            )
    header = ["load, in replicas' capacities", "triggers", "changes per hour", "refused", "p99 of the wait", "replicas"]
    command = "```\npython benchmarks/autoscaling_simulation.py\n```"
    replace_section(args.out, "autoscaling-simulation", f"{command}\n\n{table(header, rows)}")


if __name__ == "__main__":
    main()
