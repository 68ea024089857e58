"""Which sensor each device of this process has: replayed or live, as this machine was told."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from device_agent.sensors.camera import Camera, Pictures
from device_agent.sensors.gear import Gear
from device_agent.sensors.lines import Pipe, Program
from device_agent.sensors.live import Feed, Fitting, LiveSensor, LiveSensors, Sensed, SensorError, ThreadFeed
from device_agent.sensors.own import Own, SensorContext, Whole
from device_agent.sensors.rows import Rows
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.sensors import SensorChoice
from edgebench.fabric.slices import StreamInfo


def open_live(
    choices: Mapping[Sensed, SensorChoice], streams: Mapping[str, StreamInfo], reactor: Reactor, client_id: str
) -> LiveSensors:
    """Open what is chosen, once each. streams: by workload, what a sample of it is. client_id: at gear's brokers.

    Call it in a thread that lasts. Raises SensorError with the place, the sensor and what is wrong.
    """
    live = LiveSensors({}, {}, [], [])
    opened: dict[tuple[object, ...], Feed] = {}
    try:
        for (node, workload), choice in choices.items():
            try:
                _add(live, opened, node, workload, choice, streams[workload], reactor, client_id)
            except SensorError as error:
                raise SensorError(f"{node}/{workload}={choice.shown}: {error}") from error
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
            feed = Gear(choice, node, reactor, f"{client_id}-{node}")
        else:
            feed = _threaded(choice, node, workload, stream, live.closings)
        opened[key] = feed
        live.feeds.append(feed)
    sensor = LiveSensor(f"{node}/{workload}={choice.shown}", stream.input, fitting)
    feed.sensors.append(sensor)
    live.sensors[node, workload] = sensor
    live.kinds[node, workload] = choice.kind


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
