"""The links of a run on this machine: emulated by the relay, measured before anything else runs, cut and mended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from edgebench.errors import FabricError
from edgebench.executors.faults import CutLink, MendLink
from edgebench.executors.plan import Part
from edgebench.executors.processes import PartProcess
from edgebench.fabric.links import Relay
from edgebench.fabric.probing import LinkMeasured, probe
from edgebench.fabric.records import Entry, Hiccuped, Linked, LinkObserved
from edgebench.fabric.relay import Route
from edgebench.topology.deployment import Deployment, LinkPlan


class Links:
    """What is observed of them is written down as it happens: asked for, measured, and at the end counted."""

    def __init__(self, deployment: Deployment, log_dir: Path, write: Callable[[Entry], None]) -> None:
        self._deployment = deployment
        self._log_dir = log_dir
        self._write = write
        self._relay: Relay | None = None
        self._observed = {name: _observed(link, None) for name, link in deployment.links.items()}
        self._write_down()

    def launch(self, part: Part) -> PartProcess:
        """Start the relay, without waiting for it."""
        shaped = [link for link in self._deployment.links.values() if link.shaped]
        self._relay = Relay.launch(shaped, seed=self._deployment.seed, log_dir=self._log_dir)
        return PartProcess(part, self._relay.process, self._log_dir / "relay.log")

    def until_measured(self, routes: Iterable[Route]) -> None:
        """Listen for the routes, and measure what the relay makes of the links; no node should be running yet."""
        self._running().listen(routes)
        for name, measured in probe(self._running()).items():
            self._observed[name] = _observed(self._deployment.links[name], measured)
        self._write_down()

    def address(self, route: str) -> tuple[str, int]:
        """Where a route listens: host and port."""
        return self._running().address(route)

    def inject(self, injection: CutLink | MendLink) -> None:
        """Cut a link, or mend it. Raises FabricError where it is not emulated."""
        relay = self._running()
        (relay.cut if isinstance(injection, CutLink) else relay.mend)(injection.link)

    def stop(self) -> None:
        """End the relay, and write down what has crossed it."""
        if self._relay is None:
            return
        counters = self._relay.stop()
        self._write(Hiccuped("relay", self._relay.hiccups))
        for name, count in (counters or {}).items():
            self._observed[name] = msgspec.structs.replace(
                self._observed[name],
                up_bytes=count.up_bytes,
                down_bytes=count.down_bytes,
                up_messages=count.up_messages,
                down_messages=count.down_messages,
            )
        if counters:
            self._write_down()

    def _running(self) -> Relay:
        if self._relay is None:
            raise FabricError("no link of this run is emulated")
        return self._relay

    def _write_down(self) -> None:
        for link in self._observed.values():
            self._write(Linked(link))


def _observed(link: LinkPlan, measured: LinkMeasured | None) -> LinkObserved:
    requested = {
        "latency_ms": link.latency_ms,
        "jitter_ms": link.jitter_ms,
        "up_mbit_s": link.up_mbit_s,
        "down_mbit_s": link.down_mbit_s,
    }
    seen: dict[str, float | None] = {}
    if measured is not None:
        seen = {
            "latency_ms": measured.up_delay_ms,
            "down_latency_ms": measured.down_delay_ms,
            "jitter_ms": measured.up_jitter_ms,
            "down_jitter_ms": measured.down_jitter_ms,
            "up_mbit_s": measured.up_mbit_s,
            "down_mbit_s": measured.down_mbit_s,
        }
    steady = measured is None or measured.steady
    return LinkObserved(link.name, _known(requested), _known(seen), None, None, None, None, steady)


def _known(figures: dict[str, float | None]) -> dict[str, float]:
    return {name: figure for name, figure in figures.items() if figure is not None}
