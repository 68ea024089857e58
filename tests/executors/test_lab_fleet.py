"""The machines of a lab for one run, with a real server and links of one."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec

from edgebench.errors import TopologyError
from edgebench.executors.lab_fleet import LabFleet
from tests.executors.test_joined import deployment
from tests.lab.labs import Lab, Machine, eventually


def pi(lab: Lab, home: Path, **facts: object) -> Machine:
    """A machine that can be an edge, whatever is installed here."""
    made = lab.link(home, "pi")
    facts = {"runtimes": ("litert",), "brokers": ("mosquitto",), **facts}
    made.link._facts = msgspec.structs.replace(made.link._facts, **facts)
    return made


def test_a_machine_that_has_changed_while_it_was_waited_for_is_refused_and_free(lab: Lab, tmp_path: Path) -> None:
    said: list[str] = []
    errors: list[TopologyError] = []
    fleet = LabFleet(lab.client, wait=True)

    def hold() -> None:
        try:
            fleet.hold(placed, said.append)
        except TopologyError as error:
            errors.append(error)

    waiting = threading.Thread(target=hold)
    with pi(lab, tmp_path / "pi"):
        lab.client.hold("another", ["pi"], "a test", wait_s=10.0)
        placed = fleet.place(deployment(), "t.yaml")
        waiting.start()
        eventually(lambda: said)
    with pi(lab, tmp_path / "pi", code="another"):
        eventually(lambda: not lab.info("pi").same_code)
        lab.client.release("another")
        waiting.join(30.0)
        assert len(errors) == 1
        assert str(errors[0]).startswith("t.yaml: $.machines: 'pi' runs another edgebench (")
        eventually(lambda: lab.info("pi").holder is None)
    assert said[0].startswith("waiting: pi: serves the run another (a test) since ")
