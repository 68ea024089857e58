"""What the kernels work on: messages as rows of whole numbers, and the state of stations likewise.

Times are ns. A message is a row in a pool; stations pass its number on. Of two that arrive at a station at one time
that of the workload, device and sample that comes first goes first, and what happens there at that time (a batch
begins) happens after both.

State that belongs together is a row, which is one access to memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Rows = NDArray[np.int64]
"""[message, COLUMNS], or [message, COLUMNS_OF_CHAINS] where any of them passes two stages."""

NEVER = np.iinfo(np.int64).max
ABSENT = -1
"""A stamp that a message has not reached."""
DROPPED = -2
"""What `BATCH` says of a message that had to go from a full queue."""

GROUP, EDGE, FLOW, DEVICE, SEQ, AT, NEXT, DECIDER = range(8)
DUE, CAPTURED, SENT, FORWARD_IN, FORWARD_OUT, RECEIVED, READY, STARTED = range(8, 16)
FINISHED, REPLIED, RETURN_IN, RETURN_OUT, ARRIVED, SIZE, REPLY_SIZE, BATCH, COLUMNS = range(16, 25)
"""Of a row. GROUP, EDGE: of its device. FLOW: the number of its workload. AT: when it is at
its next station. NEXT: the message behind it in a queue. DECIDER: where it is to be decided and, then, the tier that
has (`CASCADE`: an edge has, and is unsure). SIZE, REPLY_SIZE: bytes of MQTT payload."""

HEAD_READY, HEAD_STARTED, HEAD_FINISHED, HEAD_BATCH, COLUMNS_OF_CHAINS = range(COLUMNS, COLUMNS + 5)
"""Besides, of what the first stage of a chain has done; the others then are of the second."""

ON_DEVICE, AT_EDGE, AT_CLOUD, CASCADE, CHAIN = range(5)
"""Where a device's samples are decided; those of a `CHAIN` in the cloud, once an edge has done the first stage."""

PURPOSES = 26
_purposes: list[Any] = list(np.arange(PURPOSES))
TIMER, CAPTURE, SIZE_DRAW, SITE_UP, DECODE, PASS_ON, WAKE, INFER, ANSWER, UNSURE = _purposes[:10]
BACKHAUL_UP, CLOUD_DECODE, CLOUD_WAKE, CLOUD_INFER, CLOUD_ANSWER = _purposes[10:15]
REPLY_DRAW, BACKHAUL_DOWN, HAND_BACK, SITE_DOWN, OWN_CAPTURE, HEAR, CLOUD_REPLY = _purposes[15:22]
INTAKE, RELAY, CLOUD_INTAKE, BROUGHT_DOWN = _purposes[22:]
"""What chance is drawn for. BROUGHT_DOWN: as SITE_DOWN, of what the cloud has decided. Of a plain number numba would
make a type, and compile what takes it for each."""


class Tables(NamedTuple):
    """Distributions, one behind the other: those of table t are the n[t] sorted values from start[t] on."""

    values: Ints
    start: Ints
    n: Ints


class Flows(NamedTuple):
    """Workloads. cost: the table of [flow, purpose, group of nodes]; service: of [flow, group, size of a batch], and
    at_once: of one that begins as soon as another is done; -1 where there is none. share: of what a cascade passes on
    to the cloud. up_bytes, down_bytes: what MQTT adds to a payload [flow, group]; forward_bytes, answer_bytes: likewise
    between edge and cloud [flow]. output_bytes: of the sample that holds what the first stage of a chain gives; -1
    where samples go on as they came [flow]. streams: of chance [flow, purpose].

    As kernels read them: drawn [flow, group, purpose, (`COUNT`, `PLACE`, `STREAM`)], batches [flow, group, at once,
    size, likewise], and the values of `Tables`.
    """

    max_batch: Ints
    max_wait: Ints
    bound: Ints
    drops_newest: Ints
    cost: Ints
    service: Ints
    at_once: Ints
    share: NDArray[np.float64]
    up_bytes: Ints
    down_bytes: Ints
    forward_bytes: Ints
    answer_bytes: Ints
    output_bytes: Ints
    streams: Ints
    drawn: Ints
    batches: Ints
    values: Ints


COUNT, PLACE, STREAM = range(3)
"""How many values a distribution has (0: none are known), the place of the first among `Tables.values` or, of one, the
value itself; and the stream of its chance."""

Sources = NDArray[np.int32]
"""[source, SOURCE_COLUMNS]: a workload on a device each."""

OF_FLOW, OF_DEVICE, WHERE, NEXT_SEQ, SOURCE_COLUMNS = range(5)

Devices = Ints
"""[device, DEVICE_COLUMNS]: GROUP and EDGE of each, as in rows, and since when it is FREE: it has sent what it sensed
before."""

DEVICE_COLUMNS = 4
"""One more than are used: two devices fill a line of a processor's cache, and none lies in two."""

Parts = Ints
"""[part, PART_COLUMNS]: parts of a window, one after another, which are gone through together."""

WINDOW, END, SINCE, UNTIL, FIRST_KEY, LAST_KEY, PART_COLUMNS = range(7)
"""Of a part, which goes from SINCE to UNTIL. WINDOW, END: when its window begins and ends. FIRST_KEY, LAST_KEY: the
places of the keys of what falls due in it."""

HandedOver = Ints
"""[part, (`FOR_CLOUD`, `FOR_DEVICES`)]: by the end of each part below, so many messages had left edges."""

FOR_CLOUD, FOR_DEVICES = range(2)


class Lanes(NamedTuple):
    """One direction of links. state [lane, LANE_COLUMNS]; kinds [kind, KIND_COLUMNS], and their ns_per_byte. crossed
    [report, 2]: the bytes and messages that have come to their end by `until`.

    Of traces, one behind another: times_ms [step], when packets may leave, and upto [step], how many of the trace have
    until then; off_ns [place], how far off the latency delays are. leaving [pipe, LEAVING_COLUMNS]: of pipes whose rate
    follows a trace; empty where none does.
    """

    state: Ints
    kinds: Ints
    ns_per_byte: NDArray[np.float64]
    crossed: Ints
    until: int
    times_ms: Ints
    upto: Ints
    off_ns: Ints
    leaving: Ints


KIND, PIPE, FREE, REPORT, OFFSET, LAST, TAKEN, DRAWN, LANE_COLUMNS = range(9)
"""Of a lane. PIPE: that it shares or has alone, whose FREE says since when it is. REPORT: under which number it is
counted. OFFSET, LAST: as `core.links.Lane` has them; TAKEN: when the last message was taken in at its end. DRAWN: so
many numbers of its own chance it has used up."""

LATENCY, JITTER, LAW, CHANCE, SHARED, FIRST_STEP, STEPS, FIRST_DELAY, DELAYS, KIND_COLUMNS = range(10)
"""Of a kind of lanes: ns, the law of the jitter and the stream of its chance; whether all of it share a pipe. Of the
trace of its rate where it begins, and its STEPS; of that of its delays, likewise; 0 where there is none."""

GONE, GONE_NS, ROOM, LEAVING_COLUMNS = range(4)
"""How many packets of the trace have gone, taken or not, and when the last one was taken, as of `core.links.TracePipe`;
and how many bytes that one has room for."""


class Carried(NamedTuple):
    """What has crossed lanes in one direction: bytes and messages, by the number under which they are counted."""

    bytes: Ints
    messages: Ints


Servers = Ints
"""[server, SERVER_COLUMNS]: queues with a model each."""

HEAD, TAIL, WAITING, GATHERED, LOOK, BUSY, SERVER_COLUMNS = range(7)
"""Of a server. HEAD, TAIL: of the linked list of the messages that wait, which are WAITING; so many at its head as are
GATHERED belong to the batch to be. LOOK: when it is looked next whether a batch is due; BUSY: it decides one until
then."""

Bag = Ints
"""Messages, in no order. It begins with how many there are NEAR, from FIRST on, and FAR: put off until the next window
of time, from the middle of what remains on."""

NEAR, FAR, FIRST = range(3)


class Below(NamedTuple):
    """Devices, edges, and their links. edge_free: when each has taken in what came to it before. own: the models of
    devices, where they have any; heard: when the last decision of each was handed over."""

    sources: Sources
    devices: Devices
    device_group: Ints
    edge_group: Ints
    edge_free: Ints
    edges: Servers
    own: Servers
    heard: Ints
    up: Lanes
    far_up: Lanes


class BagsBelow(NamedTuple):
    """Messages that are unused, between stations, and out to what is above."""

    unused: Bag
    to_links: Bag
    to_edges: Bag
    ready_on_devices: Bag
    ready_at_edges: Bag
    decided: Bag
    to_cloud: Bag
    at_cloud: Bag
    to_devices: Bag
    done: Bag


class Above(NamedTuple):
    """The cloud, and the way back. return_free: by edge; cloud_group, cloud_free [1]."""

    edge_group: Ints
    return_free: Ints
    cloud_group: Ints
    cloud_free: Ints
    cloud: Servers
    far_down: Lanes
    down: Lanes


class BagsAbove(NamedTuple):
    """Messages handed over from below, between stations, done (handed out next), and returned: unused again."""

    for_cloud: Bag
    for_devices: Bag
    at_cloud: Bag
    ready_at_cloud: Bag
    from_cloud: Bag
    to_devices: Bag
    done: Bag
    returned: Bag


_LINE_BYTES = 64
"""Of the cache of most processors."""


def in_lines(n: int, columns: int, of: type[np.int64 | np.int32] = np.int64) -> Any:
    """Zeros [n, columns] that begin with a line of the cache, so that a row which is no longer than one takes one."""
    size = np.dtype(of).itemsize
    room = np.zeros(n * columns + _LINE_BYTES // size, of)
    start = -room.ctypes.data % _LINE_BYTES // size
    return room[start : start + n * columns].reshape(n, columns)


def lanes(kind: Ints, pipe: Ints, report: Ints, kinds: int, until: int) -> Lanes:
    """Lanes that have carried nothing yet, with kinds to be filled in."""
    state = in_lines(len(kind), LANE_COLUMNS)
    state[:, KIND], state[:, PIPE], state[:, REPORT] = kind, pipe, report
    crossed = np.zeros((int(report.max()) + 1 if len(report) else 0, 2), np.int64)
    none = np.zeros(0, np.int64)
    return Lanes(
        state,
        np.zeros((kinds, KIND_COLUMNS), np.int64),
        np.zeros(kinds),
        crossed,
        until,
        times_ms=none,
        upto=none,
        off_ns=none,
        leaving=np.zeros((0, LEAVING_COLUMNS), np.int64),
    )


def servers(n: int) -> Servers:
    """Servers without work."""
    found = np.zeros((n, SERVER_COLUMNS), np.int64)
    found[:, LOOK] = NEVER
    return found


def bag(capacity: int) -> Bag:
    """An empty one, for as many messages as there are: what is put off has room of its own."""
    found = np.empty(FIRST + 2 * capacity, np.int64)
    found[:FIRST] = 0
    return found
