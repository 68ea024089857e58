"""The settings that `links.py` measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgebench.seeds import rng_for
from edgebench.topology.deployment import LinkPlan
from edgebench.topology.link_traces import NO_TRACES, LinkTraces, RateTrace, quantiles_ms

SEED = 7


@dataclass(frozen=True)
class Effort:
    """How much is measured. tries: of the messages of a setting, at most."""

    tries: int
    messages: int
    flood_s: float
    lossy_s: float
    apart_s: float
    flows: int

    @property
    def whole_s(self) -> float:
        """Of a setting with loss: connections begin to send all the time one after the other."""
        return self.lossy_s + self.apart_s * (self.flows - 1)


FULL = Effort(tries=5, messages=1000, flood_s=2.0, lossy_s=45.0, apart_s=0.5, flows=8)
QUICK = Effort(tries=1, messages=20, flood_s=0.5, lossy_s=2.0, apart_s=0.2, flows=2)


@dataclass(frozen=True)
class Setting:
    """A link, and how many of it share its pipe."""

    plan: LinkPlan
    shared_by: int = 1
    traces: LinkTraces = NO_TRACES

    @property
    def plans(self) -> list[LinkPlan]:
        """A link for each."""
        return [replaced(self.plan, child=f"child-{number}") for number in range(self.shared_by)]


def link(latency_ms: float, up: float | None = None, down: float | None = None, **more: Any) -> LinkPlan:
    """From a child to its parent."""
    return LinkPlan("child-0", "parent", latency_ms, more.pop("jitter_ms", 0.0), up, down or up, "pipe", **more)


def replaced(plan: LinkPlan, **fields: Any) -> LinkPlan:
    """Another one."""
    return LinkPlan(**{name: getattr(plan, name) for name in plan.__struct_fields__} | fields)


def _mobile() -> RateTrace:
    """A mobile network's rate: between 4 and 40 Mbit/s, changing every 100 ms, with half a second of nothing."""
    rng, gaps_ms, packets, gap_ms = rng_for(SEED, "mobile"), [], [], 0
    for second_tenth in range(50):
        mean = 0.0 if 20 <= second_tenth < 25 else float(rng.uniform(4, 40)) / 12.032
        for count in rng.poisson(mean, 100).tolist():
            gap_ms += 1
            if count:
                gaps_ms.append(gap_ms)
                packets.append(count)
                gap_ms = 0
    return RateTrace(tuple(gaps_ms), tuple(packets))


def _wifi() -> list[float]:
    """Delays of a wireless network, each like the one before, with a tail."""
    rng, delay_ms, found = rng_for(SEED, "wifi"), 8.0, []
    for _ in range(500):
        delay_ms = max(2.0, 8.0 + 0.7 * (delay_ms - 8.0) + float(rng.normal(0, 1.5)))
        found.append(round(delay_ms + (float(rng.exponential(20.0)) if rng.random() < 0.03 else 0.0), 3))
    return found


MOBILE, WIFI = _mobile(), _wifi()
SETTINGS: dict[str, Setting] = {
    "0 ms, 1 Mbit/s": Setting(link(0.0, 1.0)),
    "0 ms, 1000 Mbit/s": Setting(link(0.0, 1000.0)),
    "1 ms, unlimited": Setting(link(1.0)),
    "20 ms, 20 Mbit/s": Setting(link(20.0, 20.0)),
    "50 ms, 10 Mbit/s up, 40 down": Setting(link(50.0, 10.0, 40.0)),
    "200 ms, 10 Mbit/s": Setting(link(200.0, 10.0)),
    "20 ± 5 ms, 100 Mbit/s": Setting(link(20.0, 100.0, jitter_ms=5.0)),
    "50 ms, normal jitter of 10": Setting(link(50.0, jitter_ms=10.0, jitter="normal")),
    "50 ms, Pareto jitter of 10": Setting(link(50.0, jitter_ms=10.0, jitter="pareto")),
    "delays by a trace": Setting(
        link(quantiles_ms(WIFI)[1], delay_trace="wifi"), traces=LinkTraces(delays={"wifi": WIFI})
    ),
    "20 ms, rates by a trace": Setting(
        link(20.0, MOBILE.mean_mbit_s, up_trace="mobile", down_trace="mobile"),
        traces=LinkTraces(rates={"mobile": MOBILE}),
    ),
    "10 ms, 40 Mbit/s shared by 8": Setting(link(10.0, 40.0), shared_by=8),
    "10 ms, 100 Mbit/s shared by 64": Setting(link(10.0, 100.0), shared_by=64),
    "20 ms, 50 Mbit/s, 0.1 % lost": Setting(link(20.0, 50.0, loss_percent=0.1)),
    "20 ms, 50 Mbit/s, 1 % lost": Setting(link(20.0, 50.0, loss_percent=1.0)),
    "20 ms, 50 Mbit/s, 5 % lost": Setting(link(20.0, 50.0, loss_percent=5.0)),
}
