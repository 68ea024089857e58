"""What came of workloads that edges moved to the cloud, or back, while a run went on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.core.device import Moved
from edgebench.core.replacing import Replaced
from edgebench.results import stats
from edgebench.results.chunks import ABSENT, Bools, SampleChunk
from edgebench.results.figures import ReplacementFigures
from edgebench.results.observations import Observations
from edgebench.results.timeline import since_start_s
from edgebench.results.values import Ints, Mergeable
from edgebench.topology.deployment import Deployment

_AROUND_NS = NS_PER_S


@dataclass
class Replacement(Mergeable):
    """One move of a workload at a site. devices: that were at the site. left, to: the nodes that decided before and
    after. until_ns: so long it is told what samples took at the new place: for `hold_s`, or to the next move.

    in_flight: samples that the old place still had; lost: of those that it may have had. took_ns: of `samples`.
    """

    PARAMETERS: ClassVar = ("replaced", "devices", "left", "to", "cloud", "until_ns")
    replaced: Replaced
    devices: frozenset[str]
    left: str
    to: str
    cloud: str
    until_ns: int
    in_flight: int = 0
    lost: int = 0
    samples: int = 0
    took_ns: int = 0

    def update(self, workload: str, chunk: SampleChunk) -> None:
        """Take in a chunk of a workload."""
        if workload != self.replaced.workload:
            return
        known = [index for index, name in enumerate(chunk.names["node"]) if name in self.devices]
        mine = np.isin(chunk.codes["node"], known)
        at_ns, due_ns = self.replaced.at_ns, chunk.ns["scheduled_ns"]
        began_ns, ended_ns = self._at_edge(chunk)
        there = mine & chunk.decided & (began_ns != ABSENT)
        by_old = there & chunk.is_of("decider", self.left)
        self.in_flight += int((by_old & (began_ns < at_ns) & (ended_ns >= at_ns)).sum())
        since_ns = at_ns - _AROUND_NS - round(self.replaced.measured_ms * NS_PER_MS)
        self.lost += int((mine & ~chunk.decided & (due_ns >= since_ns) & (due_ns < at_ns)).sum())
        by_new = there & chunk.is_of("decider", self.to) & (began_ns >= at_ns) & (began_ns < self.until_ns)
        self.samples += int(by_new.sum())
        self.took_ns += int((ended_ns - began_ns)[by_new].sum())

    def _at_edge(self, chunk: SampleChunk) -> tuple[Ints, Ints]:
        """When the edge had taken a sample in, and when its decision could leave there [sample]."""
        by_cloud: Bools = chunk.is_of("decider", self.cloud)
        began_ns = np.where(by_cloud, chunk.ns["forward_in_ns"], chunk.ns["received_ns"])
        return began_ns, np.where(by_cloud, chunk.ns["return_in_ns"], chunk.ns["finished_ns"])

    def figures(self, observations: Observations) -> ReplacementFigures:
        """The figures."""
        replaced = self.replaced
        return ReplacementFigures(
            workload=replaced.workload,
            site=replaced.site,
            left=replaced.left,
            to=replaced.to,
            at_s=since_start_s(observations, replaced.at_ns),
            measured_ms=stats.rounded(replaced.measured_ms),
            predicted_ms=stats.rounded(replaced.predicted_ms),
            after_ms=stats.rounded(self.took_ns / self.samples / NS_PER_MS) if self.samples else None,
            after_samples=self.samples,
            in_flight=self.in_flight,
            lost=self.lost,
            looks=replaced.looks,
            rate_hz=stats.rounded(replaced.rate_hz),
        )


def replacements_in(deployment: Deployment, observations: Observations) -> list[Replacement]:
    """Those of a run, in the order of their times."""
    every = observations.replacements
    return [_replacement(each, every[number + 1 :], deployment, observations) for number, each in enumerate(every)]


def _replacement(
    replaced: Replaced, later: Sequence[Replaced], deployment: Deployment, observations: Observations
) -> Replacement:
    online = deployment.workloads[replaced.workload].online
    assert online is not None
    same = replaced.workload, replaced.site
    ends_ns = [each.at_ns for each in later if (each.workload, each.site) == same]
    node_of = {"edge": replaced.site, "cloud": deployment.cloud}
    return Replacement(
        replaced=replaced,
        devices=frozenset(_devices_at(replaced.site, replaced.at_ns, deployment, observations.moves)),
        left=node_of[replaced.left],
        to=node_of[replaced.to],
        cloud=deployment.cloud,
        until_ns=min([replaced.at_ns + round(online.hold_s * NS_PER_S), *ends_ns]),
    )


def _devices_at(site: str, at_ns: int, deployment: Deployment, moves: Sequence[Moved]) -> list[str]:
    """moves: in the order of their times."""
    sites = {device.name: device.parent for device in deployment.of_tier("device")}
    sites |= {move.node: move.to for move in moves if move.left_ns <= at_ns}
    return [device for device, at in sites.items() if at == site]
