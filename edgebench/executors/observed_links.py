"""What is known of the links of a run: asked for, measured before it, and at the end what has crossed them; and of the
network beneath them, where they lead from one machine to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from edgebench.core.lanes import delays_ms
from edgebench.executors.plan import path_of
from edgebench.fabric.paths import PathMeasured, PathWatched
from edgebench.fabric.probing import LinkMeasured
from edgebench.fabric.records import Entry, Linked, LinkObserved
from edgebench.fabric.relay import LinkCounters
from edgebench.topology.deployment import Deployment, LinkPlan


class ObservedLinks:
    """Written down anew whenever more of it is known."""

    def __init__(self, deployment: Deployment, write: Callable[[Entry], None]) -> None:
        self._deployment = deployment
        self._write = write
        self._observed = {name: _asked_for(link) for name, link in deployment.links.items()}
        self._write_down(self._observed)

    def measured(self, links: Mapping[str, LinkMeasured]) -> None:
        """What relays really make of them."""
        for name, figures in links.items():
            known = _known(
                {
                    **_named("latency", figures.up_delays_ms),
                    **_named("down_latency", figures.down_delays_ms),
                    "jitter_ms": figures.up_jitter_ms,
                    "down_jitter_ms": figures.down_jitter_ms,
                    "up_mbit_s": figures.up_mbit_s,
                    "down_mbit_s": figures.down_mbit_s,
                }
            )
            self._observed[name] = msgspec.structs.replace(self._observed[name], measured=known, steady=figures.steady)
        self._write_down(links)

    def counted(self, links: Mapping[str, LinkCounters]) -> None:
        """What has crossed them."""
        for name, count in links.items():
            observed = self._observed[name]
            lost = {
                f"{way}_loss_percent": 100.0 * lost / packets
                for way, packets, lost in (
                    ("up", count.up_packets, count.up_lost),
                    ("down", count.down_packets, count.down_lost),
                )
                if packets
            }
            self._observed[name] = msgspec.structs.replace(
                observed,
                measured=observed.measured | lost,
                up_bytes=count.up_bytes,
                down_bytes=count.down_bytes,
                up_messages=count.up_messages,
                down_messages=count.down_messages,
            )
        self._write_down(links)

    def path_measured(self, path: tuple[str, str], found: PathMeasured) -> None:
        """What the network between two machines does, before the run."""
        real = {"latency_ms": found.delay_ms, "up_mbit_s": found.up_mbit_s, "down_mbit_s": found.down_mbit_s}
        self._note_real(path, real)

    def path_watched(self, path: tuple[str, str], found: PathWatched) -> None:
        """What it has done during it."""
        during = {"latency_during_ms": found.delay_ms, "most_latency_during_ms": found.most_delay_ms}
        self._note_real(path, during)

    def _note_real(self, path: tuple[str, str], figures: dict[str, float]) -> None:
        links = {name: link for name, link in self._deployment.links.items() if path_of(self._deployment, link) == path}
        for name in links:
            observed = self._observed[name]
            self._observed[name] = msgspec.structs.replace(observed, real=observed.real | figures)
        self._write_down(links)

    def _write_down(self, names: Mapping[str, object]) -> None:
        for name in names:
            self._write(Linked(self._observed[name]))


def _asked_for(link: LinkPlan) -> LinkObserved:
    requested = {
        **_named("latency", delays_ms(link)),
        "jitter_ms": link.jitter_ms,
        "up_mbit_s": link.up_mbit_s,
        "down_mbit_s": link.down_mbit_s,
        "loss_percent": link.loss_percent or None,
    }
    return LinkObserved(link.name, _known(requested), {}, None, None, None, None)


def _named(what: str, delays: Sequence[float]) -> dict[str, float]:
    """p50, p90 and p99 by name."""
    return dict(zip((f"{what}_ms", f"{what}_p90_ms", f"{what}_p99_ms"), delays, strict=True))


def _known(figures: dict[str, float | None]) -> dict[str, float]:
    return {name: figure for name, figure in figures.items() if figure is not None}
