"""Fixtures that tests of several packages share."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from edgebench.executors.disks import SmallDisk

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all`: the long set too."""
    parser.addoption("--all", action="store_true", help="run the tests marked `long` as well, which are left out else")


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C reaches what tests start, even where the suite is to ignore it, as in the background of a script; and what
    they start keeps what it compiles, as it does for users: thousands of processes would compile all of it anew."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long set out unless it is asked for. Whole systems first: a worker that begins with one at the end is
    waited for by the others."""
    if not config.getoption("--all"):
        long = [item for item in items if item.get_closest_marker("long") is not None]
        items[:] = [item for item in items if item not in set(long)]
        config.hook.pytest_deselected(items=long)
    systems = (ROOT / "tests" / "system", ROOT / "tests" / "federated" / "test_engines.py")
    items.sort(key=lambda item: not any(item.path.is_relative_to(place) for place in systems))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of public research data, which is not part of the project: $EDGEBENCH_DATA or beside the project."""
    path = Path(os.environ.get("EDGEBENCH_DATA") or ROOT.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set EDGEBENCH_DATA to a folder that has it")
    return path


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[None]:
    """What a user's runs remember is not for tests, nor the other way round. All workers of a test run share a cache:
    what one has trained or parsed serves the others."""
    base = tmp_path_factory.getbasetemp()
    cache = (base if worker_id == "master" else base.parent) / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEBENCH_CACHE", str(cache))
        yield


@pytest.fixture(scope="session", autouse=True)
def _fixed_ports() -> Iterator[None]:
    """Ports that labs ask for by their numbers are given to nobody else: a connection to anywhere may get one of them,
    and has it for a minute after its end."""
    from edgebench.errors import FabricError
    from edgebench.fabric.brokers.ports import Reservation
    from edgebench.lab.messages import DEFAULT_PORT, DEVICE_PORT

    with contextlib.ExitStack() as held:
        for port in (DEFAULT_PORT, DEVICE_PORT):
            with contextlib.suppress(FabricError):  # a test of another worker may listen there just now
                held.callback(Reservation("0.0.0.0", port).release)
        yield


@pytest.fixture
def eagerly() -> Iterator[None]:
    """TensorFlow runs a training step as it comes: to trace a large network takes longer than a few of its steps."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def mosquitto() -> Path:
    """The Mosquitto broker; CI must have it."""
    found = shutil.which("mosquitto", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if found is None:
        reason = "no mosquitto in PATH; install the package of that name"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(found)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk of its own at `tmp_path / "disk"`, to be filled. It wants root."""
    from edgebench.executors.disks import SmallDisk, unmount, why_not

    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    place = tmp_path / "disk"
    small = SmallDisk(place)
    try:
        yield small
    finally:
        small.free()
        unmount(place)
