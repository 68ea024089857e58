"""How much load a workload holds, as typed data: what was tried, and what came of it."""

from __future__ import annotations

from typing import Literal

import msgspec

By = Literal["devices", "rate"]
"""What the load is: how many devices there are, or how many samples each of them has in a second."""


class LoadRun(msgspec.Struct, frozen=True):
    """One run at a load. run: its directory. over: decided samples that took longer than the bound; lost: never
    decided. sure: there are enough samples to state that the p99 keeps the bound, with 99 % confidence. quality: None
    where it is undefined, as in a simulation. against: what speaks against its holding, nothing where it holds.
    spoiled: the runs with this seed before it that said nothing of the load, and why."""

    seed: int
    run: str
    decided: int
    lost: int
    over: int
    mean_ms: float | None
    p50_ms: float | None
    p99_ms: float | None
    throughput_hz: float
    quality: float | None
    sure: bool
    against: list[str]
    spoiled: dict[str, str]


class LoadPoint(msgspec.Struct, frozen=True):
    """A load, with each seed; of real runs, with those up to the first that does not hold. It holds where it does with
    all of them. offered_hz: samples that fall due in a second, all devices together; the other figures are the means
    over these seeds, None where a seed has none."""

    load: float
    holds: bool
    offered_hz: float
    throughput_hz: float
    p50_ms: float | None
    p99_ms: float | None
    p99_most_ms: float | None
    quality: float | None
    runs: list[LoadRun]


class Capacity(msgspec.Struct, frozen=True):
    """The largest load at which a workload's p99 keeps a bound, and nothing is lost.

    by: what `load` is; group: of the devices whose number it is; rate: samples a second on each. limit: holds with
    every seed; None where nothing that was tried does. next: the next step up, which does not; None where all that was
    tried holds. ended: why the search ended before these two were near enough, None where they are; notes: what else
    is to be known. curve: what was tried, by load. figures: `modelled`, `measured` or `emulated`. sites: the nodes that
    the group's devices are dealt round; None by rate.
    """

    schema: Literal[1]
    topology: str
    workload: str
    by: By
    group: str | None
    sites: int | None
    bound_ms: float
    executor: str
    figures: str
    seeds: list[int]
    within_percent: float
    limit: float | None
    next: float | None
    ended: str | None
    metric: str
    curve: list[LoadPoint]
    folder: str
    calibrated_by: list[str]
    notes: list[str]
