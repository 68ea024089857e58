"""What a Flower app says it needs, held against what is installed."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from edgebench.errors import EdgebenchError
from edgebench.federated.flower.apps import FlowerApp
from edgebench.federated.flower.needs import check_needs, other_versions


def app(*dependencies: str) -> FlowerApp:
    return FlowerApp("/apps/mine", "a:b", "a:b", {}, dependencies)


def test_packages_that_are_not_installed_are_named_with_the_line_that_installs_them() -> None:
    with pytest.raises(EdgebenchError) as caught:
        check_needs(app("numpy", "no-such-one>=0.1,<2", "NoSuchTwo[fast]", "numpy>=1"))
    assert str(caught.value) == (
        "/apps/mine: the app needs no-such-one<2,>=0.1, NoSuchTwo[fast], not installed on this machine "
        "(pip install 'no-such-one<2,>=0.1' 'NoSuchTwo[fast]')"
    )


def test_what_is_meant_for_another_system_is_not_missed() -> None:
    check_needs(app("no-such-one; sys_platform == 'amiga'", "no-such-two; python_version < '3'"))


def test_flower_itself_is_here_whatever_its_extras_bring_and_wherever_it_is_from() -> None:
    check_needs(app("flwr[simulation,no-such-extra]>=1.27", "flwr @ {root:parent:parent:uri}"))


def test_what_an_extra_brings_is_missed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    check_needs(app("pytest-xdist"))
    with pytest.raises(EdgebenchError, match=r"needs pytest-xdist\[setproctitle\], not installed"):
        check_needs(app("pytest-xdist[setproctitle]"))


def test_another_version_is_told_and_may_do() -> None:
    asked = app("numpy==0.1", "pytest>=1")
    check_needs(asked)
    assert list(other_versions(asked)) == [f"the app asks for numpy==0.1, and numpy {version('numpy')} is installed"]


def test_a_dependency_that_nobody_can_read_is_named() -> None:
    with pytest.raises(EdgebenchError, match="the app's dependency 'numpy >> 3'"):
        check_needs(app("numpy >> 3"))
