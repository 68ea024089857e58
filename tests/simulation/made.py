"""Topologies and service times made up for simulations, and the two ways to simulate them, side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebench.core.samples import COLUMNS
from edgebench.results.rundir import records_table
from edgebench.simulation.columns import Rows
from edgebench.simulation.event_driven import EventDriven
from edgebench.simulation.layout import Layout, layout_of
from edgebench.simulation.places import places_of
from edgebench.simulation.recording import Counts, Records, links_observed, undecided
from edgebench.simulation.service_times import FORWARDED, STEPS, Cascading, Cost, Cuts, Model, PassedOn, ServiceTimes
from edgebench.simulation.vectorised import Vectorised
from edgebench.topology import resolve
from edgebench.topology.model import Topology

TASK = "icu-death"
LIGHT = Model("host", TASK, "light", "litert", "float32", "train")
HEAVY = Model("host", TASK, "heavy", "litert", "float32", "train")
CASCADING = Cascading(LIGHT._replace(profile=""), HEAVY._replace(profile=""))
HEAD, TAIL = (LIGHT._replace(part=f"{part} of the cut at 2") for part in ("head", "tail"))
CUT = "cut at 2, light"
"""A chain whose model is cut at its second place."""
MS = 1_000_000
Ints = NDArray[np.int64]


def topology(nodes: Mapping[str, Any], workloads: Mapping[str, Any], **more: Any) -> Topology:
    """A topology of a file with these fields; each workload is of `TASK`."""
    given = {name: {"task": TASK, **plan} for name, plan in workloads.items()}
    document = {"schema": 1, "name": "made", "nodes": nodes, "workloads": given, **more}
    return msgspec.convert(document, Topology, strict=False)


def chain(load: Mapping[str, Any], *, duration_s: float, beds: int = 1, **workload: Any) -> Topology:
    """Beds on one ward, below a cloud, whose samples are decided one at a time unless it is said otherwise."""
    nodes = {
        "cloud": {"tier": "cloud"},
        "ward": {"tier": "edge", "parent": "cloud"},
        "bed": {"tier": "device", "count": beds, "parent": "ward"},
    }
    plan = {"source": "bed", "load": load, "batch": {"max_batch": 1}, **workload}
    return topology(nodes, {"watch": plan}, duration_s=duration_s)


def times(
    infer_ns: Mapping[int, Sequence[int] | Ints] | Sequence[int] | Ints = (MS,),
    costs: Mapping[str, Sequence[int]] | None = None,
    *,
    unsure: float = 0.0,
    heavy_ns: Mapping[int, Sequence[int]] | None = None,
    at_once_ns: Mapping[int, Sequence[int]] | None = None,
    head_ns: Mapping[int, Sequence[int]] | None = None,
    tail_ns: Mapping[int, Sequence[int]] | None = None,
    cut_costs: Mapping[str, Sequence[int]] | None = None,
) -> ServiceTimes:
    """Service times of either model, by size of a batch or for batches of one; no step costs anything unless it is
    said, a sample has 1,000 bytes, and a decision 100. at_once_ns: of batches of the light model that begin as soon as
    another is done, where they are not as others. head_ns, tail_ns: of the parts of a model that is cut, the first of
    which gives 400 bytes unless it is said; none: as long as either model. cut_costs: of what goes on between them,
    where these are not as others."""
    by_size = infer_ns if isinstance(infer_ns, Mapping) else {1: infer_ns}
    asked = {"size": (1_000,), "reply": (100,), "output": (400,), **(costs or {})}
    found = {}
    of_cut = {**asked, **(cut_costs or {})}
    for step in STEPS:
        for how, given in (("", asked), (FORWARDED, asked), (CUT, of_cut)):
            values = np.sort(np.array(given.get(step, (0,)), np.int64))
            for profile in ("", "host"):
                for task in ("", TASK):
                    if step != "begin":
                        found[Cost(step, profile, task, how)] = values

    def tables(of: Mapping[int, Sequence[int] | Ints]) -> dict[int, Ints]:
        return {size: np.sort(np.asarray(values, np.int64)) for size, values in of.items()}

    infer = {LIGHT: tables(by_size), HEAVY: tables(heavy_ns or by_size)}
    infer |= {HEAD: tables(head_ns or by_size), TAIL: tables(tail_ns or by_size)}
    at_once = {} if at_once_ns is None else {LIGHT: tables(at_once_ns)}
    passed = PassedOn(round(1_000 * unsure), 1_000)
    return ServiceTimes(infer, at_once, found, {CASCADING: passed}, sources=("made up",))


def with_cuts(known: ServiceTimes, cuts: Cuts) -> ServiceTimes:
    """With what a run timed of the parts of the light model."""
    return dataclasses.replace(known, cuts={LIGHT._replace(profile=""): [cuts]})


def cut_elsewhere(known: ServiceTimes, place: int) -> ServiceTimes:
    """As `times` says of the second place, of another one."""
    there = f"cut at {place}"
    return dataclasses.replace(
        known,
        infer={model._replace(part=model.part.replace("cut at 2", there)): each for model, each in known.infer.items()},
        costs={cost._replace(how=cost.how.replace("cut at 2", there)): each for cost, each in known.costs.items()},
    )


def laid_out(made: Topology, service: ServiceTimes) -> Layout:
    return layout_of(made, service, Path("made.yaml"))


def vectorised(layout: Layout, messages_a_part: int = 1 << 12) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The records by column, ordered by workload, device and number; and the counts and bytes."""
    places = places_of(layout.fleet)
    simulation = Vectorised(layout, places, messages_a_part)
    counts, records = Counts(layout, places), Records(layout)
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for rows in simulation.run():
        counts.take(rows)
        table = records.table(rows)
        for name in COLUMNS:
            columns[name] += table.column(name).to_pylist()
    return _ordered(columns), {"tallies": counts.tallies(), "links": links_observed(layout, places, simulation.carried)}


def all_rows(layout: Layout, messages_a_part: int = 1 << 12) -> Rows:
    """What `Vectorised` hands out, all of it."""
    return np.concatenate([rows.copy() for rows in Vectorised(layout, places_of(layout.fleet), messages_a_part).run()])


def event_driven(layout: Layout) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """As `vectorised`."""
    deployment = resolve(layout.topology, run_id="made", executor="simulate", traces=layout.link_traces)
    simulation = EventDriven(layout, deployment)
    rows = [row for taken in simulation.run() for row in taken]
    table = undecided(records_table(rows))
    columns = {name: table.column(name).to_pylist() for name in COLUMNS}
    links = links_observed(layout, places_of(layout.fleet), simulation.carried, simulation.lost_percent())
    return _ordered(columns), {"tallies": simulation.tallies, "links": links}


def _ordered(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    order = sorted(
        range(len(columns["seq"])),
        key=lambda place: (columns["workload"][place], columns["node"][place], columns["seq"][place]),
    )
    return {name: [column[place] for place in order] for name, column in columns.items()}
