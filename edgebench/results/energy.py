"""What machines drew, as meters have it; and what emulated machines and their links would have drawn, by models, which
say so."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.clock import NS_PER_S
from edgebench.core.releases import Releases
from edgebench.fabric.records import HostUsage, LinkObserved
from edgebench.results.figures import EnergyFigures, LinkEnergyFigures, MachineEnergyFigures
from edgebench.results.observations import Observations
from edgebench.results.stats import rounded
from edgebench.topology.deployment import LinkPlan
from edgebench.topology.profiles import Profile

_NJ_PER_J = 1e9


def energy_figures(profile: Profile, releases: Releases, streamed_s: float) -> EnergyFigures | None:
    """Of a node that was emulated by this profile; None where it does not tell the machine's power.

    Power grows linearly from idle to active with the share of the cores that are busy. Source: Fan, Weber and Barroso
    2007, "Power provisioning for a warehouse-sized computer".
    """
    power = profile.power
    if power is None or streamed_s <= 0:
        return None
    # What was put off until the streams had ended was work all the same: it is drawn for, and no share exceeds one.
    busy_s = releases.busy_ns / NS_PER_S / profile.cores
    idle_j, work_j = power.idle_w * streamed_s, (power.active_w - power.idle_w) * busy_s
    return EnergyFigures(
        how="modelled",
        idle_j=rounded(idle_j),
        work_j=rounded(work_j),
        mean_w=rounded((idle_j + work_j) / streamed_s),
        busy_share=rounded(min(1.0, busy_s / streamed_s)),
        source=f"{power.source} ({'measured' if power.measured else 'by data sheet'})",
    )


def link_energy(plan: LinkPlan | None, observed: LinkObserved, *, simulated: bool) -> LinkEnergyFigures | None:
    """Of a link's bytes; None where its topology tells no energy of a byte, or they were not counted."""
    if plan is None or plan.energy is None or observed.up_bytes is None or observed.down_bytes is None:
        return None
    energy = plan.energy
    return LinkEnergyFigures(
        how="modelled",
        up_j=rounded(observed.up_bytes * energy.up_nj_per_byte / _NJ_PER_J),
        down_j=rounded(observed.down_bytes * energy.down_nj_per_byte / _NJ_PER_J),
        source=energy.source,
        counted="publications" if simulated else "whole run",
    )


def machine_energy(observations: Observations, usage: Sequence[HostUsage], machine: str) -> MachineEnergyFigures | None:
    """Of a machine while samples were due; None where it has no meter, or that told nothing in this time.

    What is told of a time that is only partly within counts by that part.
    """
    meter, start_ns, end_ns = observations.meters.get(machine), observations.started_ns, observations.ended_ns
    if meter is None or start_ns is None or end_ns is None:
        return None
    drawn_j = metered_s = 0.0
    for use in usage:
        if use.watts is None or use.since_ns is None:
            continue
        within_s = max(0, min(use.at_ns, end_ns) - max(use.since_ns, start_ns)) / NS_PER_S
        drawn_j += use.watts * within_s
        metered_s += within_s
    if not metered_s:
        return None
    return MachineEnergyFigures(
        how="measured",
        j=rounded(drawn_j),
        mean_w=rounded(drawn_j / metered_s),
        metered_s=rounded(metered_s),
        source=meter.source,
        failed=meter.failed,
    )
