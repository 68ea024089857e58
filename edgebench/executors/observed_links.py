"""What is known of the links of a run: asked for, measured before it, and at the end what has crossed them; and of the
network beneath them, where they lead from one machine to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

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
                    "latency_ms": figures.up_delay_ms,
                    "down_latency_ms": figures.down_delay_ms,
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
            self._observed[name] = msgspec.structs.replace(
                self._observed[name],
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
        "latency_ms": link.latency_ms,
        "jitter_ms": link.jitter_ms,
        "up_mbit_s": link.up_mbit_s,
        "down_mbit_s": link.down_mbit_s,
    }
    return LinkObserved(link.name, _known(requested), {}, None, None, None, None)


def _known(figures: dict[str, float | None]) -> dict[str, float]:
    return {name: figure for name, figure in figures.items() if figure is not None}
