"""`edge-cloud`: the cloud of a run: control plane, registry, training, cloud-placed inference."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import msgspec

from cloud.cloud_spec import CloudSpec
from cloud.control_plane import ControlPlane
from cloud.director import Director
from cloud.node import CloudNode
from cloud.registry import Registry
from cloud.run_status import RunStatus
from edgebench.clock import now_ns
from edgebench.errors import EXIT_USER_ERROR, EdgebenchError, FabricError
from edgebench.fabric.descriptors import allow_descriptors
from edgebench.fabric.hiccups import HiccupMeter
from edgebench.fabric.logs import log_to_stderr
from edgebench.fabric.node_process import EXIT_BROKEN_OFF, end_with_stdin, end_with_thread, usage_now, versions
from edgebench.fabric.records import Closed, Entry, Hiccuped, Refused, TallySnapshot, Used
from edgebench.fabric.spool import Spool
from edgebench.fabric.transfer_routes import serve

_FLUSH_S = 0.5


class _Journal:
    """The cloud's spool; entries come from any thread and reach the file with the next flush."""

    def __init__(self, path: Path) -> None:
        self._spool = Spool(path)
        self._entries: list[Entry] = []
        self._lock = threading.Lock()
        self.hiccups = HiccupMeter()

    def write(self, entry: Entry) -> None:
        with self._lock:
            self._entries.append(entry)

    def flush(self) -> None:
        with self._lock:
            entries, self._entries = self._entries, []
        try:
            self._spool.write(*entries)
        except OSError as error:
            raise FabricError(f"{self._spool.path}: no more can be recorded: {error.strerror}") from error


def main(argv: list[str] | None = None) -> int:
    """Run the cloud of one run, which standard input describes in its first line; exit status 0 for an orderly end."""
    parser = argparse.ArgumentParser(prog="edge-cloud")
    parser.add_argument("--listen-fd", type=int, required=True, metavar="FD", help="a listening socket, handed down")
    parser.add_argument("--work-dir", type=Path, required=True, metavar="DIR", help="for records and stream files")
    parser.add_argument("--lifeline", action="store_true", help="stop in good order when standard input ends")
    args = parser.parse_args(argv)
    allow_descriptors()
    log_to_stderr()
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    line = _first_line()
    if not line:  # nobody needs it after all
        return EXIT_BROKEN_OFF
    spec = msgspec.json.decode(line, type=CloudSpec)
    threading.excepthook = end_with_thread
    if args.lifeline:
        end_with_stdin()
    try:
        if not asyncio.run(_serve(spec, args.listen_fd, args.work_dir)):
            return EXIT_BROKEN_OFF
    except EdgebenchError as error:
        print(f"edge-cloud: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


async def _serve(spec: CloudSpec, listen_fd: int, work_dir: Path) -> bool:
    """Whether the run came to its end."""
    deployment = spec.deployment
    journal = _Journal(work_dir / "records.spool")
    registry = Registry(Path(spec.registry_dir))
    status = RunStatus(
        [node.name for node in deployment.of_tier("device") if node.board is None],
        [node.name for node in deployment.of_tier("edge")],
    )
    plane = ControlPlane(
        deployment, spec.endpoints, spec.tokens, spec.traces, status, registry, Path(spec.run_dir), work_dir
    )
    node = CloudNode(deployment, spec.endpoints[deployment.cloud].broker, registry, journal.write, work_dir)
    director = Director(spec, status, plane, registry, node, work_dir, journal.write)
    runner = await serve(plane.application(), socket.socket(fileno=listen_fd), plane.refusals)
    node.start()
    journal.hiccups.start()
    directing = asyncio.create_task(director.run(), name="director")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, directing.cancel)
    flushing = asyncio.create_task(_flush_regularly(journal, node, plane, deployment.cloud), name="flush")
    try:
        # Flushing never ends but by a failure: without it all that the cloud does would be lost.
        await asyncio.wait({directing, flushing}, return_when=asyncio.FIRST_COMPLETED)
        if flushing.done():
            directing.cancel()
            await asyncio.wait({directing})
            flushing.result()
        with contextlib.suppress(asyncio.CancelledError):
            directing.result()
        ended = not directing.cancelled() and status.phase == "ending"
        if ended:
            journal.write(Closed([deployment.cloud], now_ns(), versions()))
        return ended
    finally:
        node.stop()
        if not flushing.done():
            flushing.cancel()
            _note(journal, node, plane, deployment.cloud)
        journal.hiccups.end()
        await runner.cleanup()


async def _flush_regularly(journal: _Journal, node: CloudNode, plane: ControlPlane, name: str) -> None:
    while True:
        await asyncio.sleep(_FLUSH_S)
        _note(journal, node, plane, name)


def _note(journal: _Journal, node: CloudNode, plane: ControlPlane, name: str) -> None:
    journal.write(Used([name], usage_now()))
    journal.write(Hiccuped(name, journal.hiccups.take()))
    if (refused := plane.refusals.news()) is not None:
        journal.write(Refused(name, refused))
    journal.write(TallySnapshot(now_ns(), name, node.tallies))
    for released in node.released():
        journal.write(released)
    journal.flush()


def _first_line() -> bytes:
    """The first line of standard input, and not a byte more: the rest is the lifeline's."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        line += byte
    return bytes(line)


if __name__ == "__main__":
    sys.exit(main())
