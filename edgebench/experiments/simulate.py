"""`edgebench simulate`: a topology in virtual time, from what was measured to a run directory as a run leaves it."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec

import edgebench
from edgebench.clock import utc_now
from edgebench.errors import EdgebenchError, TopologyError
from edgebench.experiments.deployment_checks import check_deployment
from edgebench.experiments.given import TopologyFile, keep_given
from edgebench.experiments.host import host_facts
from edgebench.experiments.places import check_folder
from edgebench.report.page import write_figures, write_report
from edgebench.results.figures import Result
from edgebench.results.observations import Observations
from edgebench.results.rundir import (
    OPTIONS,
    KeptOptions,
    StoredRun,
    create_run_dir,
    load_run,
    write_deployment,
    write_json,
    write_observations,
    write_rounds,
    write_tables,
)
from edgebench.simulation.busy import Busy
from edgebench.simulation.calibrating import service_times_of
from edgebench.simulation.columns import Rows
from edgebench.simulation.contention import refuse_untold
from edgebench.simulation.fleet import fleet_of
from edgebench.simulation.folding import Fold
from edgebench.simulation.layout import Layout, is_closed, layout_of
from edgebench.simulation.places import MOST_NAMED, Places, places_of
from edgebench.simulation.recording import Counts, links_observed, outages_of
from edgebench.simulation.service_times import ServiceTimes, merged
from edgebench.simulation.simulated import Simulated
from edgebench.simulation.stores import Stores
from edgebench.simulation.vectorised import Vectorised
from edgebench.tasks import names
from edgebench.topology import check, profiles_of, refuse_unenforceable
from edgebench.topology.deployment import SIMULATE, Deployment
from edgebench.topology.model import Topology
from edgebench.topology.profiles import HOST
from edgebench.topology.wording import listed, one_line

MOST_NODES = 100_000_000
MOST_RECORDED = 2_000_000
"""Of more samples only the figures are kept, and percentiles to a tenth of a percent."""


@dataclass(frozen=True, kw_only=True)
class SimulateOptions:
    """How to simulate. calibrate: run directories that say what things take, besides profiles. out: where run
    directories go."""

    calibrate: tuple[Path, ...] = ()
    out: Path = Path("runs")


def simulate_topology(given: TopologyFile, options: SimulateOptions) -> tuple[Path, Result]:
    """Simulate a topology to its end; its run directory, and its figures with their verdict.

    Raises EdgebenchError for what a user has to mend first, a service time that is needed and not known among it.
    """
    check_folder("--out", options.out)
    check_simulated(given)
    return simulate_with(calibrated(given, options.calibrate), given, options.out)


def check_simulated(given: TopologyFile) -> Deployment:
    """As before a run, however many devices there are; what it resolves to. Raises TopologyError."""
    topology = given.topology
    check(topology, given.path, tasks=names(), most_nodes=MOST_NODES)
    refuse_unenforceable(topology, given.path, executor=SIMULATE)
    places = places_of(fleet_of(topology))
    if topology.moves and not places.all_told:
        why = f"of more than {MOST_NAMED:,} devices none can move (use fewer, or remove the moves)"
        raise TopologyError([f"{given.path}: $.moves: {why}"])
    if topology.federated and not places.all_told:
        why = f"more than {MOST_NAMED:,} devices do not learn together in virtual time (use fewer, or remove it)"
        raise TopologyError([f"{given.path}: $.federated: {why}"])
    deployment = places.deployment(topology, "validate", topology.data)
    check_deployment(deployment, given.path)
    refuse_untold(deployment, given.path)
    return deployment


def refuse_learning(given: TopologyFile, what: str) -> None:
    """Raises TopologyError where devices learn together, beside which something is not done."""
    if given.topology.federated:
        mend = "(remove it: --set 'federated=[]')"
        raise TopologyError([f"{given.path}: $.federated: {what} without federated learning {mend}"])


Page = Literal["yes", "if not later", "no"]


def simulate_with(times: ServiceTimes, given: TopologyFile, out: Path, *, page: Page = "yes") -> tuple[Path, Result]:
    """As `simulate_topology`, of a topology that was checked, with service times that are known. page: its
    report; written, where so asked, only if none can be made later, for want of records."""
    topology = given.topology
    layout = layout_of(topology, times, given.path)
    places = places_of(layout.fleet)
    recorded = places.all_told and (layout.expected() <= MOST_RECORDED or bool(topology.joint))
    if not recorded:
        _refuse_too_many(layout, given.path)
    run_dir = create_run_dir(out, topology.name, utc_now()).resolve()
    try:
        kept = keep_given(run_dir, given, topology)
        deployment = places.deployment(kept, run_dir.name, topology.data, folder=run_dir)
        write_deployment(run_dir, deployment)
        write_json(run_dir / OPTIONS, KeptOptions(calibrate=list(times.folders)))
        observations = _observations(layout, deployment, times)
        if recorded:
            _record(layout, places, deployment, observations, run_dir)
            return run_dir, write_report(run_dir, page=page == "yes")
        return run_dir, _fold(layout, places, deployment, observations, run_dir, page=page != "no")
    except BaseException:
        shutil.rmtree(run_dir)  # what there is of it means nothing
        raise


def _refuse_too_many(layout: Layout, file: Path) -> None:
    """What can be simulated of so many samples as can be written down. Raises TopologyError."""
    problems = [
        f"{file}: $.workloads.{flow.name}.load: a load of this kind on so many devices (use fewer, or another load)"
        for flow in layout.flows
        if is_closed(flow.load)
    ]
    problems += [
        f"{file}: $.links[{index}]: packets that get lost, of so many devices or samples (use fewer, or leave "
        "loss_percent and outages out)"
        for index, link in enumerate(layout.topology.links)
        if layout.links[link.between[0]].loses
    ]
    problems += [
        f"{file}: $.nodes.{name}.profile: fewer cores than threads, of so many devices or samples (use fewer)"
        for name in layout.contended
    ]
    if layout.visits:
        why = f"of more than {MOST_RECORDED:,} samples none can be of a device that moves (use fewer, or remove them)"
        problems.append(f"{file}: $.moves: {why}")
    if layout.learning:
        why = f"learning beside more than {MOST_RECORDED:,} samples (use fewer, or remove it)"
        problems.append(f"{file}: $.federated: {why}")
    if layout.topology.joint:
        problems.append(f"{file}: $.joint: joint decisions of so many devices (remove it, or use fewer)")
    if problems:
        raise TopologyError(problems)


def calibrated(given: TopologyFile, calibrate: tuple[Path, ...]) -> ServiceTimes:
    """What things took in runs of the same tasks; nothing without a run, where profiles say what nodes take. Raises
    EdgebenchError."""
    if not calibrate:
        _check_profiled(given)
        return ServiceTimes()
    telling = each_once(calibrate)
    for path in telling:
        check_calibrates(load_run(path), given)
    times = merged(map(service_times_of, telling))
    if not times.infer and not is_profiled(given.topology):
        mend = "(name one without, too: --set 'federated=[]')"
        raise EdgebenchError(
            f"{listed(list(map(str, telling)))}: a run with federated learning tells of that alone {mend}"
        )
    return times


def each_once(calibrate: Iterable[Path]) -> tuple[Path, ...]:
    """Run directories, however often each is named."""
    return tuple({path.resolve(): path for path in calibrate}.values())


def is_profiled(topology: Topology) -> bool:
    """Whether any of its nodes has a profile, which says what that takes."""
    return any(group.profile != HOST for group in topology.nodes.values())


def by_profiles_alone(given: TopologyFile) -> ServiceTimes | None:
    """What stands for runs where profiles say all that a checked topology needs; None where they do not."""
    try:
        times = calibrated(given, ())
        layout_of(given.topology, times, given.path)
    except EdgebenchError:
        return None
    return times


def _check_profiled(given: TopologyFile) -> None:
    """Whether profiles may say what things take. Raises EdgebenchError."""
    mend = "(name a run of the same tasks with --calibrate RUN)"
    if not is_profiled(given.topology):
        raise EdgebenchError(f"nothing says what things take {mend}")
    durability = given.topology.durability
    if durability != "none":
        why = f"{durability}, and no profile tells what keeping samples takes"
        raise EdgebenchError(one_line(f"{given.path}: $.durability: {why} {mend}"))


def check_calibrates(stored: StoredRun, given: TopologyFile) -> None:
    """Raises EdgebenchError where what a run took says nothing of a topology, since it kept its samples otherwise, had
    another kind of broker, or another machine of the same name."""
    run_dir, run, mend = stored.path, stored.deployment, "(calibrate with a run of the same)"
    if run.durability != given.topology.durability:
        differs = f"{given.topology.durability}, and that of {run_dir} was {run.durability}"
        raise EdgebenchError(f"{given.path}: $.durability: {differs} {mend}")
    broker, others = given.topology.broker.kind, {each.kind for each in stored.observations.brokers}
    if broker != "auto" and others - {broker}:
        differs = f"{broker}, and {listed(sorted(others))} served {run_dir}"
        raise EdgebenchError(f"{given.path}: $.broker.kind: {differs} {mend}")
    tasks = {plan.task for plan in run.workloads.values()}
    for file, profile in profiles_of(given.topology).items():
        other = run.profiles.get(profile.name)
        if other is not None and other != profile.of_tasks(tasks):
            raise EdgebenchError(f"{file}: is not the '{profile.name}' that {run_dir} had {mend}")


def _record(layout: Layout, places: Places, deployment: Deployment, observations: Observations, run_dir: Path) -> None:
    """Write what a run would have left behind."""
    simulated, busy = Simulated(layout, places, deployment), Busy(deployment, observations.chains)
    write_tables(run_dir, busy.passing(simulated.tables()))
    write_rounds(run_dir, simulated.rounds)
    busy.learned(simulated.rounds)
    counted = msgspec.structs.replace(
        observations,
        tallies=simulated.tallies,
        links=simulated.links,
        overfull=simulated.overfull,
        silent=simulated.silent,
        moves=simulated.moves,
        released=busy.released(),
    )
    write_observations(run_dir, counted)


def _fold(
    layout: Layout, places: Places, deployment: Deployment, observations: Observations, run_dir: Path, *, page: bool
) -> Result:
    """Write figures and report of samples that are too many to be written down."""
    simulation, counts, fold = Vectorised(layout, places), Counts(layout, places), Fold(deployment, observations)
    stores = Stores(layout)

    def take(rows: Rows) -> None:
        counts.take(rows)
        stores.take(rows)
        fold.take(rows)

    _take_beside(simulation.run(), take)
    links = links_observed(layout, places, simulation.carried)
    observations = msgspec.structs.replace(
        observations, tallies=counts.tallies(), links=links, overfull=stores.overfull()
    )
    write_observations(run_dir, observations)
    return write_figures(StoredRun(run_dir, deployment, observations, []), fold.whole(observations), page=page)


def _take_beside(parts: Iterable[Rows], take: Callable[[Rows], None]) -> None:
    """Take rows in while the next ones are made: one of the threads that simulate has less to do than the other."""
    with ThreadPoolExecutor(1, "take") as beside:
        taking: Future[None] | None = None
        for rows in parts:
            if taking is not None:
                taking.result()
            taking = beside.submit(take, rows)
        if taking is not None:
            taking.result()


def _observations(layout: Layout, deployment: Deployment, times: ServiceTimes) -> Observations:
    """What is known before anything is simulated: its time begins with the streams."""
    return Observations(
        started_ns=0,
        ended_ns=layout.end_ns,
        command_started_ns=0,
        tallies={},
        swaps=[],
        usage={},
        hosts_of={},
        closed=sorted(deployment.nodes),
        models=[],
        links=[],
        deaths=[],
        host_usage=[],
        host=host_facts(),
        versions={
            "edgebench": edgebench.__version__,
            "numba": metadata.version("numba"),
            "numpy": metadata.version("numpy"),
            "python": platform.python_version(),
        },
        data_sources={},
        calibrated_by=list(layout.told_by),
        doubts=list(times.doubts),
        chains=list(layout.chains),
        faults=outages_of(layout),
        partitions=[each.partitioned for each in layout.learning],
    )
