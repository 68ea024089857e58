"""From what a run wrote down to its figures; a pure function of the files of the run directory."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.clock import NS_PER_S
from edgebench.fabric.records import RoundRecord
from edgebench.results.disturbance import disturbance_figures, disturbance_of
from edgebench.results.fault_costs import killed_for_good
from edgebench.results.federations import federations_of
from edgebench.results.figures import SCHEMA, BrokerFigures, DeathFigures, Result
from edgebench.results.machines import links_of, machines_of, nodes_of, processes_of
from edgebench.results.observations import Observations
from edgebench.results.rollouts import rollouts_of
from edgebench.results.run_fold import RunFold
from edgebench.results.timeline import since_start_s
from edgebench.results.verdict import verdict_of
from edgebench.results.workload_figures import counted, due_until_ns, end_ns_of, workload_figures
from edgebench.results.workload_fold import WorkloadFold
from edgebench.topology.deployment import HERE, Deployment, is_simulated
from edgebench.topology.profiles import HOST


def result_of(
    deployment: Deployment, observations: Observations, fold: RunFold, rounds: Sequence[RoundRecord] = ()
) -> Result:
    """All figures of a run and the verdict on them. fold: of all its records; rounds: of federations, see `rundir`."""
    ends = (end_ns_of(each, observations) for each in fold.workloads.values())
    until_ns = max((end_ns for end_ns in ends if end_ns is not None), default=None)
    dues = (due_until_ns(each, observations) for each in fold.workloads.values())
    due_ns = max((until_ns for until_ns in dues if until_ns is not None), default=None)
    disturbance = disturbance_figures(observations, disturbance_of(observations), due_ns, until_ns)
    workloads = {name: workload_figures(each, deployment, observations) for name, each in fold.workloads.items()}
    links = links_of(deployment, observations)
    machines = machines_of(deployment, observations)
    processes = processes_of(deployment, observations)
    nodes = nodes_of(deployment, processes, observations)
    beside = {name: each.beside.figures() if each.beside else (None, None) for name, each in fold.workloads.items()}
    federated = federations_of(deployment, observations, rounds, beside)
    return Result(
        schema=SCHEMA,
        run_id=deployment.run_id,
        name=deployment.name,
        seed=deployment.seed,
        executor=deployment.executor,
        verdict=verdict_of(
            deployment,
            observations,
            workloads,
            links,
            machines,
            nodes,
            federated,
            disturbance,
            _excused(deployment, observations, fold),
            {name: each.begun_ns for name, each in fold.workloads.items()},
        ),
        workloads=workloads,
        federated=federated,
        links=links,
        nodes=nodes,
        host=dict(sorted(observations.host.items())),
        versions=dict(sorted(observations.versions.items())),
        figures=_kind(deployment),
        duration_s=deployment.duration_s,
        streamed_s=_streamed_s(observations),
        started_to_first_decision_s=None if is_simulated(deployment) else _first_decision_s(observations, fold),
        rollouts=rollouts_of(observations, {name: each.swaps for name, each in fold.workloads.items()}),
        processes=processes,
        host_use=machines[HERE].host_use,
        deaths=_deaths(observations),
        faults=[each.figures(observations) for each in fold.faults.faults],
        rejected_elsewhere=_rejected_elsewhere(deployment, observations),
        joint={name: each.figures() for name, each in fold.joints.items()},
        handovers=[each.figures(observations.started_ns or 0) for each in fold.handovers],
        disturbance=disturbance,
        machines=machines,
        brokers={each.site: BrokerFigures(each.kind, each.version) for each in observations.brokers},
        refused=observations.refused,
        calibrated_by=observations.calibrated_by,
        replacements=[each.figures(observations) for each in fold.replacements],
    )


def _excused(deployment: Deployment, observations: Observations, fold: RunFold) -> dict[str, int]:
    """How many samples of each workload were lost to faults that nobody had promised to keep: those among the records,
    and those that a device, killed for good or without a promise, counted and did not live to write down."""
    killed = {node for death in observations.deaths if death.expected for node in death.nodes}
    for_good = killed_for_good(observations)
    kept = deployment.durability != "none"  # then a life may write down what an earlier one counted
    excused = dict(fold.faults.excused)
    for node, tallies in observations.tallies.items():
        for name, tally in tallies.items():
            if name not in fold.workloads:
                continue
            if node in for_good or (node in killed and not fold.faults.survives_restarts(name)):
                missing = max(0, tally.scheduled - fold.workloads[name].rows[node])
                if node not in for_good and not kept:
                    missing = max(0, missing - _missing_at_the_end(observations, fold.workloads[name], node))
                excused[name] = excused.get(name, 0) + missing
    return excused


def _missing_at_the_end(observations: Observations, fold: WorkloadFold, node: str) -> int:
    """How many samples a node counted and did not write down in the life in which it ended in good order: no fault has
    taken these."""
    last = observations.last_lives.get(node)
    if last is None or fold.plan.name not in last.tallies:
        return 0
    return max(0, last.tallies[fold.plan.name].scheduled - fold.later_rows[node, last.incarnation])


def _kind(deployment: Deployment) -> str:
    """What the figures of a run are."""
    if is_simulated(deployment):
        return "modelled"
    return "emulated" if any(node.profile != HOST for node in deployment.nodes.values()) else "measured"


def _streamed_s(observations: Observations) -> float | None:
    return since_start_s(observations, observations.ended_ns) if observations.ended_ns is not None else None


def _first_decision_s(observations: Observations, fold: RunFold) -> float | None:
    arrived = [each.arrived_ns.least for each in fold.workloads.values()]
    firsts = [each for each in arrived if each is not None]
    return round((min(firsts) - observations.command_started_ns) / NS_PER_S, 6) if firsts else None


def _deaths(observations: Observations) -> list[DeathFigures]:
    ordered = sorted(observations.deaths, key=lambda death: death.at_ns)
    return [
        DeathFigures(
            death.part,
            death.status,
            since_start_s(observations, death.at_ns),
            death.last_words,
            death.expected,
            death.returns,
        )
        for death in ordered
    ]


def _rejected_elsewhere(deployment: Deployment, observations: Observations) -> dict[str, int]:
    """Payloads that could be assigned to no workload of this run."""
    return counted(
        tally.rejected
        for of_node in observations.tallies.values()
        for workload, tally in of_node.items()
        if workload not in deployment.workloads
    )
