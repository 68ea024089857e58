"""A profile for people."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.topology.profiles import Measured, Profile, Times


def lines_of(profile: Profile) -> Iterator[str]:
    """In plain text, which a board without the lab's packages prints as well."""
    origin = profile.origin
    about = f"{origin.cpu}, {origin.system}, {origin.broker}" if isinstance(origin, Measured) else "by data sheet"
    yield f"{profile.name}: {profile.cores} cores, {profile.memory_mb:,} MB, {about}"
    yield ""
    yield f"{'ms':44} {'batch':>5} {'p50':>9} {'p99':>9} {'mean':>9} {'first':>9} {'n':>6} {'MB':>6}"
    for cost in profile.inference:
        what = f"{cost.task}, {cost.size}, {cost.runtime}, {cost.quantisation}"
        first = "" if cost.first_ms is None else f"{cost.first_ms:.1f}"
        yield f"{what:44} {cost.batch:5} {_row(cost.times)} {first:>9} {cost.times.n:6,}{_memory(cost.memory_mb)}"
    for step in profile.training:
        what = f"{step.task}, {step.size}, {step.runtime}: a step"
        yield f"{what:44} {step.batch:5} {_row(step.step)} {'':>9} {step.step.n:6,}{_memory(step.memory_mb)}"
    for picture in profile.pictures:
        for name, times in (("compress", picture.compress), ("decompress", picture.decompress)):
            yield f"{f'{picture.task}: {name}, quality {picture.quality}':44} {'':5} {_row(times)} {'':>9} {times.n:6,}"
    yield ""
    yield f"{'messages, p50, ms':44} {'qos':>5} {'relay':>9} {'receive':>9} {'send':>9} {'answer':>9}"
    for message in profile.messages:
        costs = (message.relay, message.receive, message.send, message.answer)
        shown = " ".join(f"{_quantile(each, 0.5):9.3f}" for each in costs)
        yield f"{f'{message.size_bytes:,} bytes':44} {message.qos:5} {shown}"
    if profile.wake is not None:
        yield f"{'waking the thread of a model':44} {'':5} {_row(profile.wake)} {'':>9} {profile.wake.n:6,}"
    yield ""
    yield from _heat_and_power(profile)


def _heat_and_power(profile: Profile) -> Iterator[str]:
    heat, power = profile.sustained, profile.power
    if heat is not None:
        when = "" if heat.from_s is None else f", from {heat.from_s:g} s on"
        hottest = "" if heat.hottest_c is None else f", at most {heat.hottest_c:g} °C"
        yield f"all cores busy for {heat.load_s:g} s: {heat.slowdown:.2f} times as slow at the end{when}{hottest}"
    if power is not None:
        how = "measured" if power.measured else "by data sheet"
        yield f"power: {power.idle_w:g} W idle, {power.active_w:g} W with all cores busy ({how}: {power.source})"


def _row(times: Times) -> str:
    return f"{_quantile(times, 0.5):9.3f} {_quantile(times, 0.99):9.3f} {times.mean_us / 1e3:9.3f}"


def _memory(memory_mb: float | None) -> str:
    return "" if memory_mb is None else f" {memory_mb:6,.0f}"


def _quantile(times: Times, share: float) -> float:
    """Ms."""
    return times.us[min(int(share * len(times.us)), len(times.us) - 1)] / 1e3
