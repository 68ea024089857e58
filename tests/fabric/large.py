"""Fetches a file of 100 MB from itself, and hands it in to itself; prints by how many bytes its memory grows meanwhile.

python -m tests.fabric.large DIRECTORY
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import psutil

from edgebench.fabric.control import HttpClient
from edgebench.fabric.transfers import fetch, hand_in
from tests.fabric.served_folder import TOKEN, Folder, serving_folder

SIZE_BYTES = 100_000_000
_LOOK_S = 0.002


def main() -> None:
    directory = Path(sys.argv[1])
    process = psutil.Process()
    folder = Folder(directory / "served")
    folder.path.mkdir()
    block = bytes(range(250)) * 4000
    with (folder.path / "model").open("wb") as file:
        for _ in range(SIZE_BYTES // len(block)):
            file.write(block)
    with serving_folder(folder) as url, HttpClient(url, TOKEN) as client:
        before_bytes = most_bytes = process.memory_info().rss
        over = threading.Event()

        def look() -> None:
            nonlocal most_bytes
            while not over.wait(_LOOK_S):
                most_bytes = max(most_bytes, process.memory_info().rss)

        looking = threading.Thread(target=look)
        looking.start()
        fetch(client, "/v1/files/model", directory / "copy")
        hand_in(client, "files/reply", directory / "copy")
        over.set()
        looking.join()
    print(most_bytes - before_bytes, _same(folder.path / "model", folder.path / "reply"), sep="\n")


def _same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


if __name__ == "__main__":
    main()
