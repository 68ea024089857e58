"""Sends a file of 100 MB to itself through a broker, and prints by how many bytes its memory has grown meanwhile.

python -m tests.federated.large mqtt://127.0.0.1:1883 DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

from edgebench.fabric.endpoints import parse_broker_url
from edgebench.federated.payload import Received
from tests.federated.wired import turn_until, wired

SIZE_BYTES = 100_000_000
_LOOK_S = 0.002


def main() -> None:
    broker, directory = parse_broker_url(sys.argv[1]), Path(sys.argv[2])
    process = psutil.Process()
    path = directory / "model"
    block = bytes(range(250)) * 4000
    with path.open("wb") as file:
        for _ in range(SIZE_BYTES // len(block)):
            file.write(block)
    with wired(broker, broker, directory) as (reactor, server, device):
        before_bytes = process.memory_info().rss
        most_bytes = before_bytes

        def look() -> None:
            nonlocal most_bytes
            most_bytes = max(most_bytes, process.memory_info().rss)
            reactor.call_later(_LOOK_S, look)

        look()
        server.send(path)
        turn_until(reactor, lambda: len(server.done) == 1 and len(device.received) == 1)
        print(most_bytes - before_bytes, _same(path, device.received[0]), sep="\n")


def _same(path: Path, received: Received) -> bool:
    assert received.path is not None
    return path.read_bytes() == received.path.read_bytes()


if __name__ == "__main__":
    main()
