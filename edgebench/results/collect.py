"""From the spools that the parts of a run leave behind to `records.parquet` and `observations.json`.

The records keep the stamps of each machine's own clock. All else is brought to the server's.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from edgebench.core.device import Moved
from edgebench.core.releases import Releases
from edgebench.core.replacing import Replaced
from edgebench.core.samples import SampleRecord
from edgebench.core.tallies import Tally, add_tallies
from edgebench.fabric.records import (
    AppMetrics,
    Began,
    Brokered,
    Cascaded,
    Chained,
    Closed,
    Compared,
    Death,
    Died,
    Elsewhere,
    Entry,
    FaultAsked,
    Faulted,
    Hiccup,
    Hiccuped,
    HostUsage,
    HostUsed,
    Invalidated,
    Linked,
    LinkObserved,
    Metered,
    ModelEvent,
    Modelled,
    Opened,
    Partitioned,
    Refused,
    Released,
    Rounded,
    RoundRecord,
    RoundScored,
    SampleRows,
    Sensed,
    Sourced,
    Swap,
    Swapped,
    TallySnapshot,
    TookPart,
    Usage,
    Used,
)
from edgebench.fabric.spool import read_spool
from edgebench.federated.own_files import FILES
from edgebench.results.fault_steps import Standstills
from edgebench.results.host_conditions import MOST, HiccupSums, foreign_to_all, merged, thinned
from edgebench.results.observations import LastLife, Lateness, Observations
from edgebench.results.rundir import load_deployment, write_observations, write_records, write_rounds
from edgebench.results.server_time import ServerTime, machines_in
from edgebench.topology.deployment import HERE

COMMAND_SPOOL = "command.spool"
UPLOADS = "uploads"
WORK = "work"


def spools_of(run_dir: Path) -> dict[str | None, Path]:
    """Every spool of a run: of a process, by its first node, what it uploaded, or else what it left behind; of None the
    command's own, which comes first."""
    uploaded = {path.stem: path for path in (run_dir / UPLOADS).glob("*.spool")}
    left = {path.parent.name: path for path in (run_dir / WORK).glob("*/records.spool")}
    by_process = left | uploaded
    return {None: run_dir / COMMAND_SPOOL, **{name: by_process[name] for name in sorted(by_process)}}


def collect(run_dir: Path) -> Observations:
    """Write `records.parquet` and `observations.json` from what the spools hold, however they ended."""
    spools = spools_of(run_dir)
    # How the clocks stood is known to the end before anything else is read.
    deployment = load_deployment(run_dir)
    gathered = _Gathered(ServerTime(deployment, machines_in(read_spool(spools[None]), deployment)))
    write_records(run_dir, _rows(spools, gathered))
    observations = gathered.observations()
    write_rounds(run_dir, gathered.rounds)
    write_observations(run_dir, observations)
    _keep_files(run_dir)
    for name in (UPLOADS, WORK):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    (run_dir / COMMAND_SPOOL).unlink()
    return observations


def _keep_files(run_dir: Path) -> None:
    """What clients of Flower apps wrote to where they stood, on this machine."""
    for folder in (run_dir / WORK).glob(f"*/*/{FILES}"):
        if any(folder.iterdir()):
            kept = run_dir / FILES / folder.relative_to(run_dir / WORK).parts[0]
            kept.parent.mkdir(exist_ok=True)
            folder.replace(kept)


def _rows(spools: dict[str | None, Path], gathered: _Gathered) -> Iterator[SampleRecord]:
    for node, path in spools.items():
        machine = HERE if node is None else gathered.time.deployment.nodes[node].machine
        for entry in read_spool(path):
            if isinstance(entry, SampleRows):
                yield from entry.rows
            else:
                gathered.take(machine, entry)


class _Gathered:
    """Everything but the rows, so far."""

    def __init__(self, time: ServerTime) -> None:
        self.time = time
        self._opened = Opened(0, {})
        self._began: Began | None = None
        self._tallies: dict[str, dict[int, dict[str, Tally]]] = {}
        """Node -> incarnation -> workload -> counts."""
        self._counted_ns: dict[str, int] = {}
        """Machine -> when a node of it last wrote its counts down, on its own clock."""
        self._swaps: list[Swap] = []
        self._usage: dict[str, dict[int, list[Usage]]] = {}
        self._released: dict[str, Releases] = {}
        self._last_released: dict[tuple[str, int], Released] = {}
        """Of each life of a node."""
        self._hosts_of: dict[str, list[str]] = {}
        self._closed: set[str] = set()
        self._models: list[ModelEvent] = []
        self._brokers: dict[str, Brokered] = {}
        self._refused: dict[str, dict[str, int]] = {}
        self._links: dict[str, LinkObserved] = {}
        self._deaths: list[Death] = []
        self._host_usage: dict[str, list[HostUsage]] = {}
        self._meters: dict[str, Metered] = {}
        self._versions: dict[str, dict[str, str]] = {}
        self._sources: dict[str, Sourced] = {}
        self._sensors: dict[str, dict[str, str]] = {}
        self._invalidated: list[str] = []
        self._mistakes: list[str] = []
        self._partitions: list[Partitioned] = []
        self._scores: list[RoundScored] = []
        self._app_metrics: list[AppMetrics] = []
        self._faults: list[Faulted] = []
        self._faults_asked: list[FaultAsked] = []
        self._cascades: list[Cascaded] = []
        self._chains: list[Chained] = []
        self._moves: list[Moved] = []
        self._replacements: list[Replaced] = []
        self._hiccups: dict[str, HiccupSums] = {}
        self._watched: dict[str, set[str]] = {}
        self._machine_of: dict[str, str] = {}
        self._steps: dict[str, list[Faulted]] = {}
        """Of faults, by the clock of each machine."""
        self._stood_still: dict[tuple[str, str], Standstills] = {}
        self.rounds: list[RoundRecord] = []

    def take(self, machine: str, entry: Entry) -> None:
        """Add an entry that was written down on a machine."""
        if isinstance(entry, Elsewhere):
            machine, entry = entry.machine, entry.entry
        if isinstance(entry, Faulted):
            self._steps.setdefault(machine, []).append(entry)
            self._stood_still.clear()
        match entry := self.time.entry(machine, entry):
            case TallySnapshot(at_ns=at_ns, node=node, tallies=tallies, incarnation=incarnation):
                self._tallies.setdefault(node, {})[incarnation] = tallies
                self._counted_ns[machine] = max(at_ns, self._counted_ns.get(machine, at_ns))
            case Released():
                self._take_released(machine, entry)
            case Swapped(swap=swap):
                self._swaps.append(swap)
            case Rounded(record=record):
                self.rounds.append(record)
            case Moved():
                self._moves.append(entry)
            case Partitioned():
                self._partitions.append(entry)
            case RoundScored():
                self._scores.append(entry)
            case AppMetrics():
                self._app_metrics.append(entry)
            case Used() | Closed() | HostUsed() | Metered() | Hiccuped():
                self._take_of_machine(machine, entry)
            case _:
                self._take_of_run(entry)

    def _take_of_machine(self, machine: str, entry: Used | Closed | HostUsed | Metered | Hiccuped) -> None:
        match entry:
            case Used(nodes=nodes, usage=usage, incarnation=incarnation):
                life = self._usage.setdefault(nodes[0], {}).setdefault(incarnation, [])
                life.append(usage)
                if len(life) >= 2 * MOST:
                    life[:] = thinned(life)
                self._hosts_of[nodes[0]] = nodes
                self._machine_of[nodes[0]] = machine
            case Closed(nodes=nodes, versions=versions):
                self._closed.update(nodes)
                self._versions.setdefault(machine, {}).update(versions)
            case HostUsed(usage=usage):
                self._host_usage.setdefault(machine, []).append(usage)
            case Metered():
                self._meters[machine] = entry
            case Hiccuped(part=part, hiccups=hiccups):
                hiccups = self._but_standstills(machine, part, hiccups)
                self._hiccups.setdefault(machine, HiccupSums()).add(part, hiccups)
                self._watched.setdefault(machine, set()).add(part)

    def _but_standstills(self, machine: str, part: str, hiccups: list[Hiccup]) -> list[Hiccup]:
        """Those of a part without the seconds in which a fault had it stand still: they tell nothing of the machine."""
        # Those of nodes come when all that the command has written down is known.
        standstills = self._standstills(machine, part)
        return [each for each in hiccups if not standstills.during(part, each.second)]

    def _standstills(self, machine: str, node: str) -> Standstills:
        if (machine, node) not in self._stood_still:
            steps = [step for step in self._steps.get(machine, ()) if node in step.nodes]
            self._stood_still[machine, node] = Standstills(steps)
        return self._stood_still[machine, node]

    def _take_released(self, machine: str, entry: Released) -> None:
        """Add what a node has released since it last said so. Where a fault had it stand still meanwhile, how late that
        was tells nothing of the machine."""
        node, life = entry.node, (entry.node, entry.incarnation)
        last = self._last_released.get(life, Released(node, Releases(), entry.incarnation, entry.at_ns))
        self._last_released[life] = entry
        news = entry.releases.since(last.releases)
        # A clock that was stepped back is as good as any.
        from_ns, to_ns = sorted((last.at_ns, entry.at_ns))
        if self._standstills(machine, node).touch(node, from_ns, to_ns):
            news = Releases(beyond=news.beyond, busy_ns=news.busy_ns, largest_bytes=news.largest_bytes)
        self._released[node] = self._released.get(node, Releases()) + news

    def _take_of_run(self, entry: Entry) -> None:
        match entry:
            case Opened():
                self._opened = entry
            case Began():
                self._began = entry
            case Sourced():
                self._sources[entry.workload] = entry
            case Sensed(node=node, workload=workload, sensor=sensor):
                self._sensors.setdefault(node, {})[workload] = sensor
            case Modelled(event=event):
                self._models.append(event)
            case Faulted():
                self._faults.append(entry)
            case FaultAsked():
                self._faults_asked.append(entry)
            case Cascaded():
                self._cascades.append(entry)
            case Chained():
                self._chains.append(entry)
            case Invalidated(reason=reason, mistake=mistake):
                (self._mistakes if mistake else self._invalidated).append(reason)
            case _:
                self._take_of_executor(entry)

    def _take_of_executor(self, entry: Entry) -> None:
        match entry:
            case Brokered():
                self._brokers[entry.site] = entry
            case Refused():
                self._refused[entry.node] = entry.refused
            case Linked(link=link):
                self._links[link.name] = link
            case Replaced():
                self._replacements.append(entry)
            case TookPart() | Compared():
                pass  # see `machines_in`
            case Died(death=death):
                self._deaths.append(death)
            case _:
                raise AssertionError(f"{type(entry).__name__} is no entry of a run")

    def observations(self) -> Observations:
        """What was gathered."""
        self._tell_foreign_apart()
        return Observations(
            started_ns=self._began.start_ns if self._began else None,
            ended_ns=self._ended_ns(),
            command_started_ns=self._opened.command_started_ns,
            tallies={node: add_tallies(lives.values()) for node, lives in self._tallies.items()},
            last_lives={
                node: LastLife(last, lives[last])
                for node, lives in self._tallies.items()
                if (last := max(lives)) > 0 and node in self._closed
            },
            swaps=sorted(self._swaps, key=lambda swap: (swap.swapped_ns, swap.node, swap.workload)),
            usage={
                name: self.time.usage(self._machine_of[name], thinned(_one_after_another(lives.values())))
                for name, lives in self._usage.items()
            },
            hosts_of=self._hosts_of,
            closed=sorted(self._closed),
            models=sorted(self._models, key=lambda event: event.ready_ns),
            links=list(self._links.values()),
            deaths=self._deaths,
            host_usage=self._merged_usage(HERE),
            host=self._opened.host,
            versions=dict(sorted(self._versions.get(HERE, {}).items())),
            data_sources={name: sourced.source for name, sourced in self._sources.items()},
            real_data=sorted(name for name, sourced in self._sources.items() if sourced.real),
            invalidated=[*self._mistakes, *self._invalidated],
            mistakes=self._mistakes,
            partitions=self._partitions,
            app_metrics=self._app_metrics,
            scores=self._scores,
            faults=self._faults,
            faults_asked=self._faults_asked,
            cascades=self._cascades,
            chains=self._chains,
            moves=sorted(self._moves, key=lambda move: move.left_ns),
            replacements=sorted(self._replacements, key=lambda each: each.at_ns),
            lateness=[late for machine in sorted(self._hiccups) for late in self._lateness(machine)],
            machines={
                name: msgspec.structs.replace(
                    seen,
                    processes=sorted(process for process, machine in self._machine_of.items() if machine == name),
                    host_usage=self._merged_usage(name),
                    versions=dict(sorted(self._versions.get(name, {}).items())),
                )
                for name, seen in self.time.machines.items()
            },
            brokers=list(self._brokers.values()),
            refused=self._refused_by_site(),
            sensors=self._sensors,
            released=dict(sorted(self._released.items())),
            meters=dict(sorted(self._meters.items())),
        )

    def _refused_by_site(self) -> dict[str, dict[str, int]]:
        """What brokers refused, and what is served by HTTP beside them."""
        of_brokers = {broker.site: broker.refused for broker in self._brokers.values()}
        sites = {**of_brokers, **self._refused}
        by_site = {site: Counter(of_brokers.get(site)) + Counter(self._refused.get(site)) for site in sorted(sites)}
        return {site: dict(sorted(counts.items())) for site, counts in by_site.items() if counts}

    def _ended_ns(self) -> int | None:
        """When the streams were over: as it was meant to be, or when the last node had to stop before that."""
        if self._began is None:
            return None
        stopped_ns = [self.time.of(machine, at_ns) for machine, at_ns in self._counted_ns.items()]
        if not stopped_ns:
            return self._began.end_ns
        return max(self._began.start_ns, min(self._began.end_ns, max(stopped_ns)))

    def _tell_foreign_apart(self) -> None:
        """Parts on other machines of the same computer are the run's own."""
        of_computers: dict[str, list[str]] = {}
        for machine in self._host_usage:
            of_computers.setdefault(self.time.computer(machine), []).append(machine)
        for machines in of_computers.values():
            if len(machines) > 1:
                on_server = {name: self.time.host_usage(name, self._host_usage[name]) for name in machines}
                for name, foreign in foreign_to_all(on_server).items():
                    self._host_usage[name] = [
                        msgspec.structs.replace(use, foreign=share)
                        for use, share in zip(self._host_usage[name], foreign, strict=True)
                    ]

    def _merged_usage(self, machine: str) -> list[HostUsage]:
        return self.time.host_usage(machine, merged(self._host_usage.get(machine, [])))

    def _lateness(self, machine: str) -> list[Lateness]:
        passed = self._passed(machine)
        found = self._hiccups[machine].lateness(self._host_usage.get(machine, []), passed)
        if self.time.machines and not passed:
            found = [msgspec.structs.replace(each, disturbed=0) for each in found]
        return self.time.lateness(machine, found)

    def _passed(self, machine: str) -> list[str]:
        """The parts of a machine that samples pass, of those that watch their timers: hosts of nodes that have counted
        some, and relays, which host none and count nothing."""
        nodes_of = {part: self._hosts_of.get(part, [part]) for part in sorted(self._watched[machine])}
        relays = [part for part, nodes in nodes_of.items() if self.time.deployment.nodes.keys().isdisjoint(nodes)]
        return relays + [part for part, nodes in nodes_of.items() if any(map(self._counts_some, nodes))]

    def _counts_some(self, node: str) -> bool:
        return any(tally != Tally() for life in self._tallies.get(node, {}).values() for tally in life.values())


def _one_after_another(lives: Iterable[list[Usage]]) -> list[Usage]:
    """The use of the machine by the lives of a process: each goes on from where the last one ended."""
    joined: list[Usage] = []
    for life in lives:
        before_s = joined[-1].cpu_s if joined else 0.0
        joined += [msgspec.structs.replace(usage, cpu_s=before_s + usage.cpu_s) for usage in life]
    return joined
