"""What is removed of what runs have left behind, and what is not."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import pytest

from edgebench.containers.cleaning import clean, remove_run
from edgebench.containers.commands import own_mark
from edgebench.containers.made import COMMAND, RUN, Made
from edgebench.lab.places import runs_folder

COMPUTER = own_mark().partition(":")[0]
GONE = f"{COMPUTER}:another-boot:1:2:3"


class FakeEngine:
    """Has things with labels, in memory; images stand on one another."""

    def __init__(self) -> None:
        self.has: dict[str, list[Made]] = {"container": [], "network": [], "volume": []}
        self.image_names: list[str] = []
        self.used: set[str] = set()

    def add(self, kind: str, name: str, **labels: str) -> None:
        self.has[kind].append(Made(f"id of {name}", name, labels))

    def names(self) -> list[str]:
        return [each.name for these in self.has.values() for each in these]

    def _with(self, kind: str, label: str) -> list[Made]:
        name, _, value = label.partition("=")
        return [each for each in self.has[kind] if name in each.labels and value in ("", each.labels[name])]

    def _without(self, kind: str, identity: str) -> None:
        self.has[kind] = [each for each in self.has[kind] if each.id != identity]

    def containers(self, label: str) -> list[Made]:
        return self._with("container", label)

    def networks(self, label: str) -> list[Made]:
        return self._with("network", label)

    def volumes(self, label: str) -> list[Made]:
        return self._with("volume", label)

    def remove_container(self, identity: str) -> None:
        self._without("container", identity)

    def remove_network(self, identity: str) -> None:
        assert not self.has["container"], "its containers go first"
        self._without("network", identity)

    def remove_volume(self, identity: str) -> None:
        self._without("volume", identity)

    def images(self, label: str) -> list[str]:
        return list(self.image_names)

    def remove_image(self, name: str) -> bool:
        if name in self.used:
            return False
        self.image_names.remove(name)
        self.used.discard(name.removesuffix("-child"))
        return True


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("EDGEBENCH_HOME", str(tmp_path))
    return FakeEngine()


def labelled(run: str, command: str) -> dict[str, str]:
    return {RUN: run, COMMAND: command}


def test_what_is_over_goes_and_what_goes_on_or_is_anothers_stays(engine: Any) -> None:
    engine.add("container", "of a run that was killed", **labelled("a", GONE))
    engine.add("network", "its network", **labelled("a", GONE))
    engine.add("volume", "its volume", **labelled("a", GONE))
    cleaned = clean(engine)
    assert cleaned.containers == ("of a run that was killed",)
    assert (cleaned.networks, cleaned.volumes) == (("its network",), ("its volume",))

    engine.add("network", "of a run that goes on", **labelled("b", own_mark()))
    engine.add("volume", "of another computer", **labelled("c", "another-computer:another-boot:1:2:3"))
    engine.add("volume", "a user's own")
    engine.add("volume", "of another program", **{"com.example": "x"})
    cleaned = clean(engine)
    assert (cleaned.containers, cleaned.networks, cleaned.volumes) == ((), (), ())
    assert cleaned.left == ("of a run that goes on", "of another computer")
    stay = ["of a run that goes on", "of another computer", "a user's own", "of another program"]
    assert engine.names() == stay


def test_the_end_of_a_run_removes_its_own_and_no_other_runs(engine: Any) -> None:
    engine.add("container", "a's", **labelled("a", own_mark()))
    engine.add("volume", "a's volume", **labelled("a", own_mark()))
    engine.add("network", "b's", **labelled("b", own_mark()))
    (runs_folder() / "a").mkdir(parents=True)
    remove_run(engine, "a")
    assert engine.names() == ["b's"]
    assert not (runs_folder() / "a").exists()


def test_the_lab_of_a_run_goes_unless_it_is_served(engine: Any) -> None:
    for name in ("gone", "served"):
        (runs_folder() / name).mkdir(parents=True)
        (runs_folder() / name / "lock").touch()
    with (runs_folder() / "served" / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert clean(engine).labs == ("gone",)
    assert [each.name for each in runs_folder().iterdir()] == ["served"]


def test_images_go_when_asked_for_in_the_order_in_which_they_can(engine: Any) -> None:
    engine.image_names = ["base", "base-child", "in use"]
    engine.used = {"base", "in use"}
    assert clean(engine).images == ()
    assert clean(engine, images=True).images == ("base-child", "base")
    assert engine.image_names == ["in use"]
