"""A machine, or a device without Python, that is removed while a run holds it: what it knows is of no use any more."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edgebench.clock import now_s, sleep_s
from edgebench.errors import FabricError
from edgebench.fabric.control import ControlClient
from edgebench.fabric.endpoints import BrokerUrl
from edgebench.fabric.tls import Trust
from edgebench.lab.devices import write_credential
from tests.fabric.brokers.clients import Client
from tests.fabric.brokers.clients import RefusedError as NotAuthorisedError
from tests.lab.labs import Lab
from tests.lab.runs import TOPOLOGY, Running, joined, logged_in, own_context
from tests.system.running import RUN_PATIENCE_S

WITH_A_BOARD = (
    TOPOLOGY.replace("workloads:", "  sensor: {tier: device, parent: ward}\nworkloads:")
    .replace("[bed, far]", "[bed, far, sensor]")
    .replace("{far: pi}", "{far: pi, sensor: esp-1}")
)


class Thief:
    """Has a login, keeps a connection to the broker with it, and comes again when that is cut, in a thread."""

    def __init__(self, broker: BrokerUrl, trust: Trust) -> None:
        self._url = BrokerUrl(broker.host, broker.port, tls=True).url
        self._login = logged_in(broker)
        self._context = own_context(trust)
        self.was_cut_off = self.was_refused = False
        self._client = self._connected()
        self._thread = threading.Thread(target=self._try)
        self._thread.start()

    def _connected(self) -> Client:
        return Client(self._url, f"thief-{self._login[0]}", login=self._login, tls=self._context)

    def _try(self) -> None:
        self.was_cut_off = bool(self._client.lost.get(timeout=RUN_PATIENCE_S))
        try:
            self._connected().close()
        except NotAuthorisedError:
            self.was_refused = True
        finally:
            self._client.client.loop_stop()  # which waits between two tries

    def join(self) -> None:
        self._thread.join()


def ask_until_refused(client: ControlClient, answers: list[str]) -> None:
    """Again and again by a connection that is kept, until it is refused, or nobody is there any more."""
    until_s = now_s() + RUN_PATIENCE_S
    while now_s() < until_s:
        try:
            client.state()
        except FabricError as error:
            answers.append(str(error))
            return
        sleep_s(0.005)


@pytest.mark.parametrize("kind", ["mosquitto", pytest.param("nats", marks=pytest.mark.long)])
def test_a_machine_that_is_removed_is_cut_off_and_named_and_what_was_recorded_is_kept(
    lab: Lab, tmp_path: Path, mosquitto: Path, kind: str
) -> None:
    with joined(lab, tmp_path / "pi", lab.token()) as pi:
        running = Running(lab, pi, tmp_path, TOPOLOGY, "--set", f"broker.kind={kind}")
        try:
            running.wait_for_streams()
            answers: list[str] = []
            thief = Thief(running.broker(), running.trust)
            with running.control() as client:
                asking = threading.Thread(target=ask_until_refused, args=(client, answers))
                asking.start()
                with running.bed_asleep():
                    lab.client.remove("pi")
                    thief.join()
                asking.join()
            result = running.result()
        finally:
            running.end()
        assert (thief.was_cut_off, thief.was_refused) == (True, True)
        assert len(answers) == 1  # and no more
        (reason,) = [each for each in result["verdict"]["reasons"] if "removed" in each]
        assert reason.startswith("machine pi at ")
        assert reason.endswith(" s was removed from the lab, and with it device agent of far")
        assert result["workloads"]["watch"]["decided"] >= 5  # of the bed that is here
        assert result["refused"]["ward"]["connections"] >= 1
        assert pi.wait(timeout=30.0) == 2


@pytest.mark.long
def test_a_device_without_python_that_is_removed_is_cut_off_and_named(
    lab: Lab, tmp_path: Path, mosquitto: Path, device_port: int
) -> None:
    credential = lab.client.invite_device("esp-1")
    write_credential(credential, tmp_path / "esp-1")
    folder = tmp_path / "esp-1"
    trust = Trust(folder / "ca.pem", folder / "device.pem", folder / "device.key")
    with joined(lab, tmp_path / "pi", lab.token()) as pi:
        running = Running(lab, pi, tmp_path, WITH_A_BOARD)
        try:
            running.wait_for_streams()
            thief = Thief(BrokerUrl("127.0.0.1", device_port, "esp-1", credential.password, tls=True), trust)
            with running.bed_asleep():
                lab.client.remove("esp-1")
                thief.join()
            result = running.result()
        finally:
            running.end()
        assert (thief.was_cut_off, thief.was_refused) == (True, True)
        (reason,) = [each for each in result["verdict"]["reasons"] if "removed" in each]
        assert reason.startswith("machine esp-1 at ")
        assert reason.endswith(" s was removed from the lab")
        assert result["workloads"]["watch"]["decided"] >= 5  # of the bed that is here
        assert pi.poll() is None
