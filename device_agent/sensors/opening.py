"""Which sensor each device of this process has: replayed or live, as this machine was told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from device_agent.sensors.camera import Camera, Pictures
from device_agent.sensors.gear import Gear
from device_agent.sensors.lines import Pipe, Program
from device_agent.sensors.live import Feed, Fitting, LiveSensor, LiveSensors, Sensed, ThreadFeed
from device_agent.sensors.own import Own, SensorContext, Whole
from device_agent.sensors.rows import Rows
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.sensors import SensorChoice, SensorError
from edgebench.fabric.slices import StreamInfo

_log = logging.getLogger(__name__)


def open_live(
    choices: Mapping[Sensed, SensorChoice],
    streams: Mapping[str, StreamInfo],
    reactor: Reactor,
    client_id: str,
    *,
    again: bool = False,
) -> LiveSensors:
    """Open what is chosen, once each. streams: by workload, what a sample of it is. client_id: at gear's brokers.

    Call it in a thread that lasts. Raises SensorError with the place, the sensor and what is wrong; `again`, in a later
    life of the process, such a sensor has ended, and the others go on.
    """
    live = LiveSensors({}, {}, [], [])
    opened: dict[tuple[object, ...], Feed] = {}
    try:
        for (node, workload), choice in choices.items():
            try:
                _add(live, opened, node, workload, choice, streams[workload], reactor, client_id)
            except SensorError as error:
                why = f"{node}/{workload}={choice.shown}: {error}"
                if not again:
                    raise SensorError(why) from error
                _log.error("%s; what is due is dropped", why)
                sensor = _added(live, node, workload, choice, streams[workload], Whole(streams[workload].input))
                sensor.has_ended = True
    except BaseException:
        live.close()
        raise
    return live


def _add(
    live: LiveSensors,
    opened: dict[tuple[object, ...], Feed],
    node: str,
    workload: str,
    choice: SensorChoice,
    stream: StreamInfo,
    reactor: Reactor,
    client_id: str,
) -> None:
    fitting: Fitting
    match choice.kind:
        case "camera":
            fitting = Pictures(stream.input)
            key: tuple[object, ...] = (choice,)
        case "own":
            fitting = Whole(stream.input)
            key = (choice, node, workload)
        case "mqtt":
            fitting = Rows(stream.input, stream.features)
            key = (choice, node)
        case _:
            fitting = Rows(stream.input, stream.features)
            key = (choice,)
    feed = opened.get(key)
    if feed is None:
        if choice.kind == "mqtt":
            # Neither the id of the device, whose broker this may be, nor that of another file of its node.
            feed = Gear(choice, node, reactor, f"{client_id}-{node}-gear-{len(live.feeds)}")
        else:
            feed = _threaded(choice, node, workload, stream, live.closings)
        opened[key] = feed
        live.feeds.append(feed)
    feed.sensors.append(_added(live, node, workload, choice, stream, fitting))


def _added(
    live: LiveSensors, node: str, workload: str, choice: SensorChoice, stream: StreamInfo, fitting: Fitting
) -> LiveSensor:
    sensor = LiveSensor(f"{node}/{workload}={choice.shown}", stream.input, fitting)
    live.sensors[node, workload] = sensor
    live.kinds[node, workload] = choice.kind
    return sensor


def _threaded(
    choice: SensorChoice, node: str, workload: str, stream: StreamInfo, closings: list[Callable[[], None]]
) -> ThreadFeed:
    match choice.kind:
        case "camera":
            return ThreadFeed(choice.shown, Camera(choice).read)
        case "own":
            context = SensorContext(
                node, workload, stream.task, stream.input.dtype, stream.input.shape, tuple(stream.features)
            )
            return ThreadFeed(choice.shown, Own(choice, context).read)
        case "program":
            program = Program(choice)
            closings.append(program.close)
            return ThreadFeed(choice.shown, program.read)
        case _:
            pipe = Pipe(choice)
            closings.append(pipe.close)
            return ThreadFeed(choice.shown, pipe.read)
