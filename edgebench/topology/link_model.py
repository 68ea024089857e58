"""Links, in a topology file."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from edgebench.topology.fields import DelayMs, DurationS, LossPercent, Name, RateMbitS, Strict, TimeS

Jitter = Literal["uniform", "normal", "pareto"]
Radio = Literal["wifi", "lte"]
NjPerByte = Annotated[float, Meta(ge=0, le=1e9)]

KEEPALIVE_S = 30
"""MQTT's, of all nodes: connections that are silent for longer may be given up."""

LEAST_DEVIATION: dict[Jitter, float] = {"uniform": 1.0, "normal": 3.0, "pareto": 3**-0.5}
"""How far below the latency a delay may be, as multiples of `jitter_ms`: of a normal one all but 1 in 1,000."""


class LinkEnergy(Strict, frozen=True):
    """What the child's network interface draws for each byte that it sends (up) and gets (down), nJ, beyond what it
    draws while it only waits. source: who says so."""

    up_nj_per_byte: NjPerByte
    down_nj_per_byte: NjPerByte
    source: Annotated[str, Meta(min_length=1)]


_HUANG = (
    "Huang et al. 2012, A close examination of performance and power characteristics of 4G LTE networks: slopes of its "
    "power model, as later work has them"
)

PUBLISHED: dict[Radio, LinkEnergy] = {
    # mW for each Mbit/s, which is nJ a bit, of a handset: 283.17 and 137.01, and 438.39 and 51.97. Compared with what
    # public programs of others have who use the model, not with the paper's own table.
    "wifi": LinkEnergy(8 * 283.17, 8 * 137.01, _HUANG),
    "lte": LinkEnergy(8 * 438.39, 8 * 51.97, _HUANG),
}


class Outage(Strict, frozen=True):
    """A link carries nothing for `for_s`: what is sent is lost, and TCP sends it again. every_s: it begins anew.

    reset: when it begins, connections across the link are broken; without `for_s` that is all.
    """

    at_s: TimeS
    for_s: DurationS | None = None
    every_s: DurationS | None = None
    reset: bool = False


class Link(Strict, frozen=True):
    """The links between each node of a group (first) and its parent (second).

    A missing rate is unlimited. `shared`: all pairs of the two groups share one pipe; otherwise each pair has its own.
    `jitter_ms`: half the width of a uniform distribution around the latency, or the standard deviation of a normal or a
    Pareto distribution (of shape 3, as netem's) with the latency as its mean; order is kept. `up` is from child to
    parent.

    Traces are text files beside the topology. `delay_trace`: one-way delays in ms, one a line, in place of latency and
    jitter. `rate_trace`, `up_trace`, `down_trace`: in place of rates, in mahimahi's format: each line is a time in ms
    at which 1,504 bytes may leave. `outage_trace`: lines `AT_S FOR_S`, or `AT_S FOR_S reset`, as `outages`.
    loss_percent: of the packets each way, each by a chance of its own. energy: what the child's network interface draws
    for each byte, published or one's own; what is not given is nowhere told.
    """

    between: tuple[Name, Name]
    latency_ms: DelayMs = 0.0
    jitter_ms: DelayMs = 0.0
    jitter: Jitter = "uniform"
    rate_mbit_s: RateMbitS | None = None
    up_mbit_s: RateMbitS | None = None
    down_mbit_s: RateMbitS | None = None
    rate_trace: str | None = None
    up_trace: str | None = None
    down_trace: str | None = None
    delay_trace: str | None = None
    loss_percent: LossPercent = 0.0
    outages: tuple[Outage, ...] = ()
    outage_trace: str | None = None
    shared: bool = False
    energy: Radio | LinkEnergy | None = None


def traces_of(link: Link) -> dict[str, str]:
    """The files that a link names, by field."""
    fields = ("rate_trace", "up_trace", "down_trace", "delay_trace", "outage_trace")
    return {field: name for field in fields if (name := getattr(link, field)) is not None}


class LinkChange(Strict, frozen=True):
    """What a link becomes while a run goes on; what is not given stays. Rates: of the whole pipe, if that is shared."""

    latency_ms: DelayMs | None = None
    jitter_ms: DelayMs | None = None
    jitter: Jitter | None = None
    up_mbit_s: RateMbitS | None = None
    down_mbit_s: RateMbitS | None = None
    loss_percent: LossPercent | None = None
