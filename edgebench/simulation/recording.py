"""What a simulation writes down: the records and counts that a run would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgebench.core.links import begins
from edgebench.core.tallies import Tally
from edgebench.fabric.records import Faulted, LinkObserved
from edgebench.results.rundir import records_schema
from edgebench.simulation.columns import (
    ABSENT,
    ARRIVED,
    AT_CLOUD,
    AT_EDGE,
    BATCH,
    CAPTURED,
    COLUMNS,
    DECIDER,
    DEVICE,
    DROPPED,
    DUE,
    FINISHED,
    FLOW,
    FORWARD_IN,
    FORWARD_OUT,
    HEAD_BATCH,
    HEAD_FINISHED,
    HEAD_READY,
    HEAD_STARTED,
    ON_DEVICE,
    READY,
    RECEIVED,
    REPLIED,
    REPLY_SIZE,
    RETURN_IN,
    RETURN_OUT,
    SENT,
    SEQ,
    SIZE,
    STARTED,
    Carried,
    Ints,
    Rows,
)
from edgebench.simulation.jit import jit
from edgebench.simulation.layout import Layout
from edgebench.simulation.places import Places
from edgebench.topology.deployment import LinkPlan

_SENSED = {"seq": SEQ, "scheduled_ns": DUE, "captured_ns": CAPTURED, "sent_ns": SENT, "size_bytes": SIZE}
_DECIDED = {
    "forward_in_ns": FORWARD_IN,
    "forward_out_ns": FORWARD_OUT,
    "received_ns": RECEIVED,
    "ready_ns": READY,
    "started_ns": STARTED,
    "finished_ns": FINISHED,
    "replied_ns": REPLIED,
    "return_in_ns": RETURN_IN,
    "return_out_ns": RETURN_OUT,
    "arrived_ns": ARRIVED,
    "reply_bytes": REPLY_SIZE,
    "batch": BATCH,
}
_OF_HEAD = {
    "head_ready_ns": HEAD_READY,
    "head_started_ns": HEAD_STARTED,
    "head_finished_ns": HEAD_FINISHED,
    "head_batch": HEAD_BATCH,
}
"""Column of the records -> of a row; of what is decided alone, all but the first, and of chains the last."""

_ROWS_A_TABLE = 1 << 17


def joined(parts: Iterable[Rows]) -> Iterator[Rows]:
    """As many rows at a time as a table is to have, or a few more. parts: there until the next is asked for."""
    waiting: list[Rows] = []
    n = 0
    for rows in parts:
        waiting.append(rows.copy())
        n += len(rows)
        if n >= _ROWS_A_TABLE:
            yield np.concatenate(waiting)
            waiting, n = [], 0
    if n:
        yield np.concatenate(waiting)


class Records:
    """Turns rows into tables as `records.parquet` holds them. A simulation decides nothing: no output, label or
    digest."""

    def __init__(self, layout: Layout) -> None:
        import pyarrow as pa

        fleet = layout.fleet
        self._edge_of = fleet.edge_of
        self._devices, self._edges = fleet.count("device"), fleet.count("edge")
        names = [
            name for tier in ("device", "edge", "cloud") for group in fleet.of_tier(tier) for name in group.nodes()
        ]
        self._nodes = pa.array(names, pa.string())
        self._workloads = pa.array([flow.name for flow in layout.flows], pa.string())
        self._schema = records_schema()

    def table(self, rows: Rows) -> Any:
        """rows: [message, column]."""
        import pyarrow as pa

        lost = rows[:, ARRIVED] == ABSENT
        columns: dict[str, Any] = {
            "node": pa.DictionaryArray.from_arrays(pa.array(rows[:, DEVICE].astype(np.int32)), self._nodes),
            "workload": pa.DictionaryArray.from_arrays(pa.array(rows[:, FLOW].astype(np.int32)), self._workloads),
            "incarnation": pa.array(np.zeros(len(rows), self._schema.field("incarnation").type.to_pandas_dtype())),
            "decider": pa.DictionaryArray.from_arrays(pa.array(self._deciders(rows), mask=lost), self._nodes),
        }
        of_decided = _DECIDED if rows.shape[1] == COLUMNS else _DECIDED | _OF_HEAD
        for name, column in (_SENSED | of_decided).items():
            kind = self._schema.field(name).type
            absent = (lost & (name in of_decided)) | (rows[:, column] == ABSENT)
            columns[name] = pa.array(rows[:, column].astype(kind.to_pandas_dtype()), kind, mask=absent)
        arrays = [
            columns[field.name] if field.name in columns else pa.nulls(len(rows), field.type) for field in self._schema
        ]
        return pa.Table.from_arrays(arrays, schema=self._schema)

    def _deciders(self, rows: Rows) -> NDArray[np.int32]:
        device, tier = rows[:, DEVICE], rows[:, DECIDER]
        found = np.where(tier == AT_EDGE, self._devices + self._edge_of[device], device)
        return np.where(tier == AT_CLOUD, self._devices + self._edges, found).astype(np.int32)


def undecided(table: Any) -> Any:
    """Records of samples of which it is known when they were decided, and not what."""
    import pyarrow as pa

    for name in ("label", "output", "digest"):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.nulls(len(table), table.schema.field(name).type))
    return table


class Counts:
    """What nodes count of workloads [workload, node of the tier]."""

    def __init__(self, layout: Layout, places: Places) -> None:
        n, fleet = len(layout.flows), layout.fleet
        self._layout = layout
        self._places = places
        self._edge_of = fleet.edge_of
        devices, edges = fleet.count("device"), fleet.count("edge")
        self._scheduled, self._decided, self._reordered, self._own_drops = np.zeros((4, n, len(places.names)), np.int64)
        self._at_edges, self._forwarded, self._edge_drops = np.zeros((3, n, edges), np.int64)
        self._at_cloud, self._cloud_drops = np.zeros((2, n, 1), np.int64)
        self._highest = np.full((2, n, devices), ABSENT, np.int32)

    def take(self, rows: Rows) -> None:
        """Count messages, those of each device in the order of their arrival."""
        _count(
            rows,
            self._edge_of,
            self._places.of_device,
            self._scheduled,
            self._decided,
            self._reordered,
            self._own_drops,
            self._at_edges,
            self._forwarded,
            self._edge_drops,
            self._at_cloud,
            self._cloud_drops,
            self._highest,
            self._layout.until_ns,
        )

    def tallies(self) -> dict[str, dict[str, Tally]]:
        """Node -> workload -> counts, of those that have any."""
        fleet = self._layout.fleet
        edges = [name for group in fleet.of_tier("edge") for name in group.nodes()]
        named = [("device", self._places.names), ("edge", edges), ("cloud", [fleet.cloud.name])]
        found = {name: self._of_node(tier, place) for tier, names in named for place, name in enumerate(names)}
        return {name: of_node for name, of_node in found.items() if of_node}

    def _of_node(self, tier: str, number: int) -> dict[str, Tally]:
        found = {}
        for flow in self._layout.flows:
            at = flow.number, number
            if tier == "device":
                scheduled = int(self._scheduled[at])
                tally = Tally(scheduled=scheduled, sent=scheduled, decided=int(self._decided[at]))
                tally.reordered = int(self._reordered[at])
                drops = int(self._own_drops[at])
            elif tier == "edge":
                tally = Tally(decided=int(self._at_edges[at]), forwarded=int(self._forwarded[at]))
                drops = int(self._edge_drops[at])
            else:
                tally, drops = Tally(decided=int(self._at_cloud[at])), int(self._cloud_drops[at])
            if drops:
                tally.dropped = {"queue-full": drops}
            if tally != Tally():
                found[flow.name] = tally
        return found


class Visited(NamedTuple):
    """The link of a device, of a group, to a site that it has come to, and what has crossed that."""

    group: str
    name: str
    up_bytes: int
    down_bytes: int
    up_messages: int
    down_messages: int


def links_observed(
    layout: Layout,
    places: Places,
    carried: Mapping[tuple[str, str], Carried],
    lost_percent: Mapping[str, Mapping[str, float]] = {},
    visited: Iterable[Visited] = (),
) -> list[LinkObserved]:
    """What has crossed each link that is told: PUBLISH packets, and what is said to connect at another site.

    carried: by the tier of the child, and direction, of the links to the parents. lost_percent: by link and direction,
    where packets get lost.
    """
    measured = {
        link: {f"{way}_loss_percent": lost for way, lost in by_way.items()} for link, by_way in lost_percent.items()
    }
    fleet = layout.fleet
    told = {group.name: group.count for group in fleet.of_tier("edge")}
    told |= {group.name: places.told(group) for group in fleet.of_tier("device")}
    found = []
    for tier in ("edge", "device"):
        up, down = (carried[tier, way] for way in ("up", "down"))
        number = 0
        for group in fleet.of_tier(tier):
            requested = _requested(layout.links[group.name])
            for index in range(told[group.name]):
                name = f"{group.node(index)} -> {fleet.site(group, index)}"
                found.append(
                    LinkObserved(
                        name=name,
                        requested=requested,
                        measured=measured.get(name, {}),
                        up_bytes=int(up.bytes[number]),
                        down_bytes=int(down.bytes[number]),
                        up_messages=int(up.messages[number]),
                        down_messages=int(down.messages[number]),
                    )
                )
                number += 1
    for each in visited:
        crossed = each.up_bytes, each.down_bytes, each.up_messages, each.down_messages
        requested = _requested(layout.links[each.group])
        found.append(LinkObserved(each.name, requested, measured.get(each.name, {}), *crossed))
    return found


def _requested(link: LinkPlan) -> dict[str, float]:
    asked = {
        "latency_ms": link.latency_ms,
        "jitter_ms": link.jitter_ms,
        "up_mbit_s": link.up_mbit_s,
        "down_mbit_s": link.down_mbit_s,
        "loss_percent": link.loss_percent,
    }
    return {name: value for name, value in asked.items() if value}


def outages_of(layout: Layout) -> list[Faulted]:
    """When links are silent, as their relay would have written it down until the streams end: of one link of each
    group, since all of them are at a time."""
    found = []
    for name, link in layout.links.items():
        group = layout.fleet.groups[name]
        first = f"{group.node(0)} -> {layout.fleet.site(group, 0)}"
        for at_ns, for_ns, _ in begins(link.outages, 0):
            if at_ns >= layout.end_ns:
                break
            found += [Faulted(first, "silent", at_ns), Faulted(first, "again", at_ns + for_ns)]
    return found


@jit
def _count(
    rows: Rows,
    edge_of: Ints,
    place_of: Ints,
    scheduled: Ints,
    decided: Ints,
    reordered: Ints,
    own_drops: Ints,
    at_edges: Ints,
    forwarded: Ints,
    edge_drops: Ints,
    at_cloud: Ints,
    cloud_drops: Ints,
    highest: NDArray[np.int32],
    until: int,
) -> None:
    """until: what would have happened later did not."""
    for number in range(len(rows)):
        flow, device = rows[number, FLOW], rows[number, DEVICE]
        edge, place = edge_of[device], place_of[device]
        scheduled[flow, place] += 1
        passed_on = rows[number, FORWARD_OUT] != ABSENT and rows[number, FORWARD_OUT] <= until
        if passed_on:
            forwarded[flow, edge] += 1
        if rows[number, BATCH] == DROPPED:
            if passed_on:
                cloud_drops[flow, 0] += 1
            elif rows[number, DECIDER] == ON_DEVICE:
                own_drops[flow, place] += 1
            else:
                edge_drops[flow, edge] += 1
        tier = rows[number, DECIDER]
        was_decided = rows[number, FINISHED] != ABSENT and rows[number, FINISHED] <= until
        if was_decided and tier == AT_EDGE:
            at_edges[flow, edge] += 1
        if was_decided and tier == AT_CLOUD:
            at_cloud[flow, 0] += 1
        if rows[number, ARRIVED] == ABSENT:
            continue
        decided[flow, place] += 1
        by_cloud = 1 if tier == AT_CLOUD else 0
        if rows[number, SEQ] < highest[by_cloud, flow, device]:
            reordered[flow, place] += 1
        else:
            highest[by_cloud, flow, device] = rows[number, SEQ]
