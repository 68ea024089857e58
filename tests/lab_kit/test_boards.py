"""Boards of other architectures: what pip installs there, and what they can do then."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab_kit.boards import BOARDS, HOME, build_wheel, installed
from tests.lab_kit.machines import Disk, Machine, network

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]

ABOUT = """
import json, platform, sys
from edgebench.errors import ModelError
from edgebench.inference.litert import interpreter_class
try:
    litert = interpreter_class().__module__.split(".")[0]
except ModelError as error:
    litert = str(error)
print(json.dumps([platform.machine(), platform.python_version(), litert]))
"""


@pytest.fixture(scope="module", params=BOARDS)
def board(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Machine]]:
    """A board with the project, in a network of its own."""
    name, folder = request.param, tmp_path_factory.mktemp("board")
    layers = installed(name, build_wheel(folder), folder / "installed")
    with network() as net:
        yield name, net.machine("board", disk=Disk(layers, folder / "own"))


def test_the_base_install_is_whole_and_says_what_it_can_run(board: tuple[str, Machine]) -> None:
    name, machine = board
    kind = BOARDS[name]
    assert machine.run(f"{HOME}/bin/pip", "check", timeout_s=600).stdout == "No broken requirements found.\n"
    said, python, litert = json.loads(machine.run(f"{HOME}/bin/python", "-c", ABOUT, timeout_s=600).stdout)
    assert said == kind.machine
    assert python.startswith(f"{kind.python}.")
    assert litert == {"aarch64": "ai_edge_litert"}.get(said, "no LiteRT here")
