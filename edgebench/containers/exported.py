"""What a run in containers that others start consists of, whatever it is written for: its parts, and what each runs.

The server serves the lab of that one run. It lays a token for each part where that part alone finds it; the part joins
by it, works for the run, and ends when that is over; the server ends with the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from edgebench.containers.images import HOME, ImageKind, limits_of
from edgebench.containers.made import Limits
from edgebench.containers.plan import SERVER, ContainerPlan
from edgebench.lab.messages import DEFAULT_PORT
from edgebench.topology.deployment import Frozen

TOKEN = "token"  # noqa: S105  (the name of a file)
"""In a part's folder."""
INVITED = "invited"
"""A file in the folder of a run's lab, which is there when all tokens are, and until the run is over."""
TOPOLOGY_FOLDER = "/topology"
RUNS_FOLDER = "/runs"
DATA_FOLDER = "/data"
TOKENS_FOLDER = "/tokens"
"""The server's: with a folder for each part."""
TOKEN_FOLDER = "/token"  # noqa: S105  (a folder)
"""A part's own."""


class Exported(Frozen, frozen=True):
    """name: of the topology. images: NAME:TAG by kind. python, arch: what the wheels in them are for.

    with_data: whether the server reads real data.
    """

    name: str
    parts: tuple[ContainerPlan, ...]
    images: Mapping[ImageKind, str]
    base_image: str
    python: str
    arch: str
    with_data: bool = False

    @property
    def sites(self) -> tuple[str, ...]:
        """The edges, in the order of the file."""
        return tuple(part.name for part in self.parts if part.kind == "edge")


class Program(NamedTuple):
    """What a container runs, as the image's user and on a root that cannot be written to."""

    kind: ImageKind
    arguments: tuple[str, ...]
    limits: Limits


def server_program() -> Program:
    """The command of the run."""
    arguments = (
        *("run", f"{TOPOLOGY_FOLDER}/topology.yaml", "--executor", "containers"),
        *("--tokens", TOKENS_FOLDER, "--out", RUNS_FOLDER),
    )
    return Program("server", arguments, Limits(SERVER, HOME, f'test -n "$(find {HOME}/containers -name {INVITED})"'))


def part_program(part: ContainerPlan) -> Program:
    """A machine of the lab for one run."""
    arguments = (
        *("join", f"https://{SERVER}:{DEFAULT_PORT}", "--name", part.name),
        *("--token-file", f"{TOKEN_FOLDER}/{TOKEN}", "--once"),
    )
    return Program(part.kind, arguments, limits_of(part))
