"""A link of a deployment as the lanes and pipes by whose law it carries, wherever it is emulated or simulated."""

from __future__ import annotations

from typing import Literal

from edgebench.clock import NS_PER_MS
from edgebench.core.links import (
    Lane,
    Losses,
    Pipe,
    TracePipe,
    deviation_at,
    jitter_draws,
    loss_draws,
    trace_draws,
)
from edgebench.topology.deployment import LinkPlan
from edgebench.topology.link_traces import LinkTraces

Way = Literal["up", "down"]
WAYS: tuple[Way, Way] = ("up", "down")


def delays_ms(plan: LinkPlan) -> tuple[float, ...]:
    """The p50, p90 and p99 of a link's one-way delays, as it was asked for."""
    deviations = (deviation_at(plan.jitter, share) for share in (0.5, 0.9, 0.99))
    return plan.delays_ms or tuple(plan.latency_ms + plan.jitter_ms * deviation for deviation in deviations)


def pipes_of(plan: LinkPlan, traces: LinkTraces, begin_ns: int | None = None) -> tuple[Pipe, Pipe]:
    """Up and down, of all links that name this pipe. begin_ns: from when on traces of rates count; None: not yet."""

    def pipe(way: Way) -> Pipe:
        rate_mbit_s, trace = rate_of(plan, way)
        return Pipe(rate_mbit_s) if trace is None else TracePipe(traces.rates[trace], begin_ns)

    return pipe("up"), pipe("down")


def rate_of(plan: LinkPlan, way: Way) -> tuple[float | None, str | None]:
    """Mbit/s one way, None without a limit, and the trace by which that varies."""
    return (plan.up_mbit_s, plan.up_trace) if way == "up" else (plan.down_mbit_s, plan.down_trace)


def lane_of(plan: LinkPlan, way: Way, pipe: Pipe, traces: LinkTraces, seed: int) -> Lane:
    """A direction of a link."""
    lane = Lane(pipe, 0, 0, iter(()))
    reshape(lane, plan, way, traces, seed)
    return lane


def reshape(lane: Lane, plan: LinkPlan, way: Way, traces: LinkTraces, seed: int, turn: int = 0) -> None:
    """Make a lane that of another plan of the same link, all but its pipe. turn: how often it was made another."""
    purpose = (plan.name, way, str(turn)) if turn else (plan.name, way)
    middle_ns = round(plan.latency_ms * NS_PER_MS)
    if plan.delay_trace is not None:
        draws = trace_draws(traces.delays[plan.delay_trace], plan.latency_ms, seed, *purpose)
        lane.reshape(middle_ns, NS_PER_MS, draws)
    else:
        lane.reshape(middle_ns, round(plan.jitter_ms * NS_PER_MS), jitter_draws(plan.jitter, seed, *purpose))
    before = lane.losses
    if before is None and not plan.loses:
        return
    # Where packets were lost once, the law of TCP goes on, and the counters do.
    lane.losses = losses = Losses(loss_draws(plan.loss_percent, seed, *purpose))
    if before is not None:
        losses.packets, losses.lost, losses.outages = before.packets, before.lost, before.outages
