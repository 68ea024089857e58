"""The machines of a lab: which of them a run needs, whether they are there and can do it, and who holds them."""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgebench.clock import now_s, sleep_s
from edgebench.cpu import shared_name
from edgebench.errors import EdgebenchError, TopologyError
from edgebench.executors.assigning import boards_of, by_tier, machines_of, played_by_boards, problems
from edgebench.executors.execution import RunInputs, Tell
from edgebench.executors.fleet import Fleet, FleetOptions, Machines
from edgebench.executors.here import ThisMachine
from edgebench.executors.joined import JoinedMachines
from edgebench.fabric.listening import LOOPBACK, PORTS, Listening
from edgebench.fabric.records import MachineFacts, TookPart
from edgebench.fabric.spool import Spool
from edgebench.fabric.tls import Trust
from edgebench.lab.messages import LOST_S, MachineInfo
from edgebench.lab.operator import LabClient
from edgebench.lab.serving import lab
from edgebench.topology.deployment import HERE, Deployment
from edgebench.topology.wording import listed, one_line

_GATHERING_S = 20.0
"""How long machines have to be heard again of a lab that was not served before."""
_LOOK_S = 0.2


class LabFleet:
    """See `Fleet`."""

    def __init__(self, client: LabClient, wait: bool) -> None:
        self._client = client
        self._wait = wait
        self._file: str | Path = ""
        """What messages call the topology."""
        self._infos: dict[str, MachineInfo] = {}

    def place(self, deployment: Deployment, file: str | Path) -> Deployment:
        """See `Fleet`."""
        named = machines_of(deployment)
        self._gather(named)
        if not named:
            deployment = by_tier(deployment, [machine for machine in self._infos.values() if machine.present])
            if not machines_of(deployment):
                raise EdgebenchError(f"{file}: {self._why_nowhere()}")
        deployment = played_by_boards(deployment, self._infos)
        self._file = file
        self._check(deployment)
        return deployment

    def hold(self, deployment: Deployment, tell: Tell) -> None:
        """See `Fleet`."""
        names = [*machines_of(deployment), *boards_of(deployment)]
        wait_s = math.inf if self._wait else 0.0
        self._client.hold(deployment.run_id, names, deployment.name, wait_s, tell)
        # Where it was waited for hours, a machine may have another address by now, other code or other packages.
        try:
            self._infos = self._machines()
            self._check(deployment)
        except BaseException:
            self._client.release(deployment.run_id)
            raise

    @contextlib.contextmanager
    def open(self, inputs: RunInputs, spool: Spool) -> Iterator[Machines]:
        """See `Fleet`."""
        deployment = inputs.deployment
        names = machines_of(deployment)
        computers = first_by_processors({HERE: shared_name(), **{name: self._infos[name].processors for name in names}})
        for name in names:
            info = self._infos[name]
            facts = MachineFacts(name, info.arch, info.cores, info.memory_mb, info.address, computers[name])
            spool.write(TookPart(facts))
        boards = {board: self._client.device_password(board) for board in boards_of(deployment)}
        infos = {name: self._infos[name] for name in names}
        network = LabNetwork(deployment, infos, self._client.here, boards)
        here = ThisMachine(
            inputs.run_dir, spool.write, network.listening, self._client.here, inputs.sensors, inputs.meter
        )
        try:
            with JoinedMachines(self._client, deployment, inputs.run_dir, spool.write) as joined:
                yield Machines({HERE: here, **joined}, network)
        finally:
            self._client.release(deployment.run_id)

    def _machines(self) -> dict[str, MachineInfo]:
        return {machine.name: machine for machine in self._client.machines(patience_s=LOST_S)}

    def _check(self, deployment: Deployment) -> None:
        """Raises TopologyError where a machine is not there, or cannot be what it is to be."""
        found = list(problems(deployment, self._infos))
        if found:
            raise TopologyError([one_line(f"{self._file}: {path}: {problem}") for path, problem in found])

    def _gather(self, named: list[str]) -> None:
        """Hear of the machines. Those that are to be there are waited for: they return to a lab that has just begun."""
        until_s = now_s() + _GATHERING_S
        while True:
            self._infos = self._machines()
            awaited = named or [name for name, machine in self._infos.items() if machine.kind == "machine"]
            missing = [name for name in awaited if name in self._infos and not self._infos[name].present]
            if not missing or now_s() > until_s:
                return
            sleep_s(_LOOK_S)

    def _why_nowhere(self) -> str:
        machines = [machine for machine in self._infos.values() if machine.kind == "machine"]
        if not machines:
            return "no machine has joined the lab (edgebench lab invite says how; or leave --executor lab out)"
        if not any(machine.present for machine in machines):
            return f"none of the lab's machines is there: {listed([machine.name for machine in machines])} (start one)"
        return "none of the lab's machines is for any node of it (map some by machines, or invite one for another tier)"


class LabNetwork:
    """See `Network`. Each machine is reached at the address by which the lab knows it, and this one by that by which a
    machine knows the lab."""

    def __init__(
        self, deployment: Deployment, infos: Mapping[str, MachineInfo], trust: Trust, boards: Mapping[str, str] = {}
    ) -> None:
        """boards: the passwords of devices without Python, which they keep from run to run."""
        self.passwords: Mapping[str, str] = {**{node: secrets.token_urlsafe(24) for node in deployment.nodes}, **boards}
        self.trust: Trust | None = trust
        self._infos = infos
        addresses = {machine.server_address for machine in infos.values() if machine.server_address}
        self._here = addresses.pop() if len(addresses) == 1 else None

    @property
    def listening(self) -> Listening:
        """Where parts on this machine do."""
        return Listening(self._here or "0.0.0.0", PORTS)  # all of it speaks TLS

    def host(self, machine: str, seen_from: str) -> str:
        """See `Network`."""
        if machine != HERE:
            return self._infos[machine].address
        if seen_from == HERE:
            return self._here or LOOPBACK
        return self._infos[seen_from].server_address


def first_by_processors(machines: Mapping[str, str]) -> dict[str, str]:
    """Of each machine the first that has the same processors; itself where those are not known.

    machines: the word for its processors, by machine.
    """
    first: dict[str, str] = {}
    return {name: first.setdefault(processors or name, name) for name, processors in machines.items()}


@contextlib.contextmanager
def lab_fleet(options: FleetOptions) -> Iterator[Fleet]:
    """See `OpenFleet`: of the lab that is served on this computer, or that is served for so long."""
    with lab() as client:
        yield LabFleet(client, options.wait)
