"""What the machines of a run have done to it: reasons against it, and what is unusual."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgebench.results.figures import DisturbanceFigures, HostUse, MachineFigures
from edgebench.results.sample_figures import Undisturbed, WorkloadFigures
from edgebench.results.tolerances import (
    DISTURBED_SHARE,
    FULL_SHARE,
    LEAST_DIFFERENCE_MS,
    P50_DIFFERENCE,
    P99_DIFFERENCE,
    STOLEN_SHARE,
    THROUGHPUT_DIFFERENCE,
    WAITING_SLIP_P95_MS,
)
from edgebench.topology.deployment import Deployment
from edgebench.topology.model import Offline
from edgebench.topology.wording import listed, things


def of_clocks(machines: dict[str, MachineFigures], stepped: Mapping[str, int]) -> Iterator[str]:
    """Clocks of which nothing is known, or that jumped. stepped: by machine, how often faults had its clock do so."""
    for name, machine in machines.items():
        if machine.clock is None:
            continue
        if not machine.clock.exchanges:
            yield (
                f"{name}: its clock was never compared with the server's, so nothing tells when what it saw happened; "
                "see the log of the lab"
            )
        for jumped in machine.clock.jumped if len(machine.clock.jumped) > stepped.get(name, 0) else ():
            yield (
                f"{name}: its clock {jumped}, and with it every latency of that time; keep the machine from being "
                "suspended or moved, and run it again"
            )


def clock_notes(machines: dict[str, MachineFigures], stepped: Mapping[str, int]) -> Iterator[str]:
    """What clocks did that is unusual, and spoils nothing, or that a fault had them do."""
    for name, machine in machines.items():
        jumped = machine.clock.jumped if machine.clock is not None else []
        for each in jumped if len(jumped) <= stepped.get(name, 0) else ():
            yield f"{name}: its clock {each}, as a fault had it, and every latency of that time is wrong by as much"
        for unusual in machine.clock.unusual if machine.clock is not None else ():
            yield f"{name}: its clock {unusual}; the bounds of the hops allow for it"


def of_hosts(
    deployment: Deployment, workloads: dict[str, WorkloadFigures], machines: dict[str, MachineFigures]
) -> Iterator[str]:
    """A full machine is at fault where it makes the load; that a real one which decides is full is a finding."""
    for name, machine in machines.items():
        slips = [
            figures.slip_ms.p95
            for workload, figures in workloads.items()
            if figures.slip_ms is not None
            and any(deployment.nodes[source].machine == name for source in deployment.workloads[workload].sources)
        ]
        host = "the host" if len(machines) == 1 else f"machine {name}"
        yield from _host(host, max(slips, default=0.0), machine.host_use)


def _host(host: str, worst_slip_ms: float, host_use: HostUse | None) -> Iterator[str]:
    if host_use is None or worst_slip_ms <= WAITING_SLIP_P95_MS:
        return
    waiting = f"and the schedule slipped by {worst_slip_ms:,.1f} ms at p95 (limit {WAITING_SLIP_P95_MS:g} ms)"
    if host_use.full > FULL_SHARE:
        yield (
            f"{host} was saturated: every core was busy for {host_use.full:.0%} of the time (limit {FULL_SHARE:.0%}) "
            f"{waiting}; use fewer nodes or a lower rate, or free the machine"
        )
    if host_use.stolen > STOLEN_SHARE:
        yield (
            f"{host} lost {host_use.stolen:.0%} of its CPU time to other guests of its hardware "
            f"(limit {STOLEN_SHARE:.0%}) {waiting}; run it again at a quieter time"
        )


def of_disturbance(
    deployment: Deployment, workloads: dict[str, WorkloadFigures], disturbance: DisturbanceFigures | None
) -> Iterator[str]:
    """Foreign work, where it took too long or changed what was found."""
    if disturbance is None:
        return
    foreign = f"foreign work on {listed(list(disturbance.machines))}" if disturbance.machines else "foreign work"
    if disturbance.share > DISTURBED_SHARE:
        yield (
            f"{foreign} disturbed {disturbance.share:.0%} of the time in which samples were due (limit "
            f"{DISTURBED_SHARE:.0%}): in the worst second the run's timers fired {disturbance.most_late_ms:,.1f} ms "
            f"late on average, {disturbance.worst_late_ms:,.1f} ms in the worst part; run it again on a quiet machine"
        )
    for name, figures in workloads.items():
        alone = figures.undisturbed
        if alone is None or not figures.decided:
            continue
        if not alone.n:
            decisions = things(figures.decided, "decision")
            yield (
                f"{name}: {foreign} disturbed every one of its {decisions}, so nothing tells by how much it changed "
                "its figures; run it again on a quiet machine"
            )
            continue
        offline = isinstance(deployment.workloads[name].load, Offline)
        differences = list(_throughputs(figures, alone) if offline else _latencies(figures, alone))
        if differences:
            yield (
                f"{name}: {foreign} changed its figures: with and without the disturbed seconds "
                f"{', '.join(differences)}; run it again on a quiet machine"
            )


def _latencies(figures: WorkloadFigures, alone: Undisturbed) -> Iterator[str]:
    """Which latencies change by more than is tolerated when the disturbed seconds are left out."""
    if figures.latency_ms is None:
        return
    for what, found, without, tolerance in (
        ("p50", figures.latency_ms.p50, alone.p50, P50_DIFFERENCE),
        ("p99", figures.latency_ms.p99, alone.p99, P99_DIFFERENCE),
    ):
        if without is not None and abs(found - without) > max(tolerance * without, LEAST_DIFFERENCE_MS):
            yield f"{what} {found:,.1f} and {without:,.1f} ms (tolerance {tolerance:.0%})"


def _throughputs(figures: WorkloadFigures, alone: Undisturbed) -> Iterator[str]:
    """The same of an offline load, whose samples wait for each other, so that their latency is their place in line.

    Any other load gives the throughput that it asks for (as many as are due, or one after the other), and what it is in
    some seconds is a matter of what was due in them, of cut links and rates that change, not of the machine.
    """
    found, without = figures.throughput_hz, alone.throughput_hz
    if without is None or found < (1.0 - THROUGHPUT_DIFFERENCE) * without:
        told = "no" if without is None else f"{without:,.1f}"
        yield f"{found:,.1f} and {told} decisions/s (tolerance {THROUGHPUT_DIFFERENCE:.0%})"
