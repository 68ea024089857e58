"""From the spools that the parts of a run leave behind to `records.parquet` and `observations.json`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from edgebench.core.device import Moved
from edgebench.core.samples import SampleRecord
from edgebench.core.tallies import Tally
from edgebench.fabric.records import (
    AppMetrics,
    Began,
    Cascaded,
    Closed,
    Death,
    Died,
    Entry,
    Faulted,
    Hiccuped,
    HostUsage,
    HostUsed,
    Invalidated,
    Linked,
    LinkObserved,
    ModelEvent,
    Modelled,
    Observations,
    Opened,
    Partitioned,
    Rounded,
    RoundRecord,
    RoundScored,
    SampleRows,
    Sourced,
    Swap,
    Swapped,
    TallySnapshot,
    Usage,
    Used,
    read_spool,
)
from edgebench.results.host_conditions import HiccupSums, merged
from edgebench.results.rundir import write_observations, write_records, write_rounds

COMMAND_SPOOL = "command.spool"
UPLOADS = "uploads"
WORK = "work"


def spools_of(run_dir: Path) -> list[Path]:
    """Every spool of a run: what a process uploaded, or else what it left behind, and the command's own."""
    uploaded = {path.stem: path for path in (run_dir / UPLOADS).glob("*.spool")}
    left = {path.parent.name: path for path in (run_dir / WORK).glob("*/records.spool")}
    by_process = left | uploaded
    return [run_dir / COMMAND_SPOOL, *(by_process[name] for name in sorted(by_process))]


def collect(run_dir: Path) -> Observations:
    """Write `records.parquet` and `observations.json` from what the spools hold, however they ended."""
    gathered = _Gathered()
    write_records(run_dir, _rows(spools_of(run_dir), gathered))
    observations = gathered.observations()
    write_rounds(run_dir, gathered.rounds)
    write_observations(run_dir, observations)
    for name in (UPLOADS, WORK):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    (run_dir / COMMAND_SPOOL).unlink()
    return observations


def _rows(spools: list[Path], gathered: _Gathered) -> Iterator[SampleRecord]:
    for path in spools:
        for entry in read_spool(path):
            if isinstance(entry, SampleRows):
                yield from entry.rows
            else:
                gathered.take(entry)


class _Gathered:
    """Everything but the rows, so far."""

    def __init__(self) -> None:
        self._opened = Opened(0, {})
        self._began: Began | None = None
        self._tallies: dict[str, dict[str, Tally]] = {}
        self._swaps: list[Swap] = []
        self._usage: dict[str, list[Usage]] = {}
        self._hosts_of: dict[str, list[str]] = {}
        self._closed: set[str] = set()
        self._models: list[ModelEvent] = []
        self._links: dict[str, LinkObserved] = {}
        self._deaths: dict[str, Death] = {}
        self._host_usage: list[HostUsage] = []
        self._versions: dict[str, str] = {}
        self._sources: dict[str, Sourced] = {}
        self._invalidated: list[str] = []
        self._mistakes: list[str] = []
        self._partitions: list[Partitioned] = []
        self._scores: list[RoundScored] = []
        self._app_metrics: list[AppMetrics] = []
        self._faults: list[Faulted] = []
        self._cascades: list[Cascaded] = []
        self._moves: list[Moved] = []
        self._hiccups = HiccupSums()
        self.rounds: list[RoundRecord] = []

    def take(self, entry: Entry) -> None:
        """Add an entry."""
        match entry:
            case TallySnapshot(node=node, tallies=tallies):
                self._tallies[node] = tallies
            case Used(nodes=nodes, usage=usage):
                self._usage.setdefault(nodes[0], []).append(usage)
                self._hosts_of[nodes[0]] = nodes
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
            case Closed(nodes=nodes, versions=versions):
                self._closed.update(nodes)
                self._versions.update(versions)
            case _:
                self._take_of_run(entry)

    def _take_of_run(self, entry: Entry) -> None:
        match entry:
            case Opened():
                self._opened = entry
            case Began():
                self._began = entry
            case Sourced():
                self._sources[entry.workload] = entry
            case Modelled(event=event):
                self._models.append(event)
            case Faulted():
                self._faults.append(entry)
            case Cascaded():
                self._cascades.append(entry)
            case Linked(link=link):
                self._links[link.name] = link
            case HostUsed(usage=usage):
                self._host_usage.append(usage)
            case Hiccuped(part=part, hiccups=hiccups):
                self._hiccups.add(part, hiccups)
            case Died(death=death):
                self._deaths.setdefault(death.part, death)
            case Invalidated(reason=reason, mistake=mistake):
                (self._mistakes if mistake else self._invalidated).append(reason)
            case _:
                raise AssertionError(f"{type(entry).__name__} is no entry of a run")

    def observations(self) -> Observations:
        """What was gathered."""
        return Observations(
            started_ns=self._began.start_ns if self._began else None,
            ended_ns=self._began.end_ns if self._began else None,
            command_started_ns=self._opened.command_started_ns,
            tallies=self._tallies,
            swaps=sorted(self._swaps, key=lambda swap: (swap.swapped_ns, swap.node, swap.workload)),
            usage=self._usage,
            hosts_of=self._hosts_of,
            closed=sorted(self._closed),
            models=sorted(self._models, key=lambda event: event.ready_ns),
            links=list(self._links.values()),
            deaths=list(self._deaths.values()),
            host_usage=merged(self._host_usage),
            host=self._opened.host,
            versions=dict(sorted(self._versions.items())),
            data_sources={name: sourced.source for name, sourced in self._sources.items()},
            real_data=sorted(name for name, sourced in self._sources.items() if sourced.real),
            invalidated=[*self._mistakes, *self._invalidated],
            mistakes=self._mistakes,
            partitions=self._partitions,
            app_metrics=self._app_metrics,
            scores=self._scores,
            faults=self._faults,
            cascades=self._cascades,
            moves=sorted(self._moves, key=lambda move: move.left_ns),
            lateness=self._hiccups.lateness(self._host_usage, self._passed()),
        )

    def _passed(self) -> list[str]:
        """The parts that samples pass: their nodes have counted some."""
        return [part for part, nodes in self._hosts_of.items() if any(self._tallies.get(node) for node in nodes)]
