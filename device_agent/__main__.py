"""`device-agent`: hosts one emulated device or many. It needs the cloud's URL, the nodes' names and their token."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from device_agent.agent import DeviceAgent
from device_agent.sensors.live import LiveSensors
from device_agent.sensors.replay import Replay, StreamFile
from device_agent.sensors.sensor import Sensor
from edgebench.fabric.control import ControlClient
from edgebench.fabric.node_process import NodeProcess, start_node
from edgebench.fabric.sensors import sensor_of, sensors_from_environment
from edgebench.fabric.slices import STREAM_FILES, STREAM_INFO, StreamInfo
from edgebench.fabric.transfers import fetch, fetch_extent
from edgebench.memory import share_one_heap

if TYPE_CHECKING:
    from device_agent.learning import Learning


def main(argv: list[str] | None = None) -> int:
    """Run the agent until its run ends; exit status 0 for an orderly end."""
    share_one_heap()
    return start_node("device-agent", argv, _host)


def _host(process: NodeProcess, control: ControlClient, work_dir: Path) -> None:
    plan = process.plan
    live = _live(process, control, work_dir)
    try:
        learning = _learning(process, control, work_dir) if plan.federated else None
        sensors = {**_replayed(process, control, work_dir, live), **live.sensors}
        DeviceAgent(process, sensors, learning, live).run()
    finally:
        live.close()


def _live(process: NodeProcess, control: ControlClient, work_dir: Path) -> LiveSensors:
    """The sensors that this machine has for nodes here."""
    plan, said = process.plan, sensors_from_environment()
    choices = {
        (device, workload): choice
        for device, shares in plan.shares.items()
        for workload in shares
        if (choice := sensor_of(said, plan.nodes[device], workload)) is not None
    }
    streams = {}
    for workload in {workload for _, workload in choices}:
        file = _directory(work_dir, workload) / STREAM_INFO
        fetch(control, f"/v1/streams/{workload}/{STREAM_INFO}", file)
        streams[workload] = msgspec.json.decode(file.read_bytes(), type=StreamInfo)
    if not choices:
        return LiveSensors({}, {}, [], [])
    from device_agent.sensors.opening import open_live  # what replays has no need of its memory

    return open_live(choices, streams, process.reactor, plan.run_id, again=process.incarnation > 0)


def _replayed(
    process: NodeProcess, control: ControlClient, work_dir: Path, live: LiveSensors
) -> dict[tuple[str, str], Sensor]:
    """What all other sensors replay."""
    files: dict[str, StreamFile] = {}
    sensors: dict[tuple[str, str], Sensor] = {}
    for device, shares in process.plan.shares.items():
        for workload, share in shares.items():
            if (device, workload) in live.sensors:
                continue
            if workload not in files:
                directory = _directory(work_dir, workload)
                for name in STREAM_FILES:
                    fetch(control, f"/v1/streams/{workload}/{name}", directory / name)
                files[workload] = StreamFile(directory)
            sensors[device, workload] = Replay(files[workload], share)
    return sensors


def _directory(work_dir: Path, workload: str) -> Path:
    directory = work_dir / "streams" / workload
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _learning(process: NodeProcess, control: ControlClient, work_dir: Path) -> Learning:
    from device_agent.learning import Learning  # what only senses has no need of its memory

    return Learning(process, _bundles(control, process, work_dir), work_dir)


def _bundles(control: ControlClient, process: NodeProcess, work_dir: Path) -> dict[str, Path]:
    """Fetch the bundles of the workloads that the built-in app learns here, with the data of the clients here."""
    from edgebench.federated.client_bundle import BUNDLE, read_info
    from edgebench.federated.partition import PARTITION_FILES, fetch_parts

    bundles = {}
    for workload, plan in process.plan.federated.items():
        if plan.how.app is not None or not plan.over_mqtt:
            continue
        directory = bundles[workload] = work_dir / "bundles" / workload
        directory.mkdir(parents=True, exist_ok=True)
        fetch(control, f"/v1/bundles/{workload}/{BUNDLE}", directory / BUNDLE)
        for name in read_info(directory).files:
            if name not in PARTITION_FILES:
                fetch(control, f"/v1/bundles/{workload}/{name}", directory / name)
        parts = [index for index, device in enumerate(plan.clients) if device in process.nodes]
        fetch_parts(parts, directory, partial(_fetch_range, control, workload, directory))
    return bundles


def _fetch_range(control: ControlClient, workload: str, directory: Path, name: str, start: int, end: int) -> None:
    fetch_extent(control, f"/v1/bundles/{workload}/{name}", directory / name, start, end)


if __name__ == "__main__":
    sys.exit(main())
