"""Containers that others start as the machines of a run: each finds its token where it was laid for it, and joins."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgebench.clock import now_s, sleep_s
from edgebench.containers.exported import INVITED, TOKEN
from edgebench.containers.plan import containers_of
from edgebench.errors import EdgebenchError
from edgebench.executors.container_fleet import on_containers, placed_in_containers
from edgebench.executors.execution import RunInputs, Tell
from edgebench.executors.fleet import Fleet, FleetOptions, Machines
from edgebench.fabric.spool import Spool
from edgebench.fabric.tls import write_private
from edgebench.lab.addresses import Listen
from edgebench.lab.messages import DEFAULT_PORT, MachineInfo
from edgebench.lab.operator import LabClient
from edgebench.lab.places import runs_folder
from edgebench.lab.serving import ServedLab
from edgebench.topology.deployment import Deployment
from edgebench.topology.wording import listed

_JOINED_WITHIN_S = 300.0
"""A cluster takes up to two minutes to bring a token to its pod. So long tokens are good, too."""
_SEEN_WITHIN_S = 3.0
_TOLD_EVERY_S = 30.0
_ENDED_WITHIN_S = 30.0
_LOOK_S = 0.1


class AwaitedFleet:
    """See `Fleet`."""

    def __init__(self, tokens: Path, *, joined_within_s: float = _JOINED_WITHIN_S) -> None:
        """tokens: a folder, with one a container in it. joined_within_s: so long they are waited for."""
        self._tokens = tokens
        self._joined_within_s = joined_within_s
        self._tell: Tell = lambda _: None

    def place(self, deployment: Deployment, file: str | Path) -> Deployment:
        """See `Fleet`."""
        return placed_in_containers(deployment, file)

    def hold(self, deployment: Deployment, tell: Tell) -> None:
        """Have a place for each one's token; they are this run's alone."""
        self._tell = tell
        for file in self._files(deployment).values():
            try:
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private(file, b"")
            except OSError as error:
                raise EdgebenchError(f"--tokens {file}: {error.strerror} (name a folder of yours)") from None

    @contextlib.contextmanager
    def open(self, inputs: RunInputs, spool: Spool) -> Iterator[Machines]:
        """See `Fleet`."""
        folder = runs_folder() / inputs.deployment.run_id
        try:
            with (
                ServedLab(Listen("", DEFAULT_PORT), folder) as served,
                contextlib.closing(served.client()) as client,
            ):
                self._let_in(client, inputs.deployment, folder)
                try:
                    with on_containers(client, inputs, spool, self._tell) as machines:
                        yield machines
                finally:
                    _until_ended(client)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _files(self, deployment: Deployment) -> dict[str, Path]:
        """Where the tokens are, by container."""
        return {plan.name: self._tokens / plan.name / TOKEN for plan in containers_of(deployment)}

    def _let_in(self, client: LabClient, deployment: Deployment, folder: Path) -> None:
        """Each by a token of its own, which lies in its file for as long as one is missing. Raises EdgebenchError."""
        files = self._files(deployment)
        try:
            for plan in containers_of(deployment):
                write_private(files[plan.name], client.invite(plan.kind, _JOINED_WITHIN_S).token.encode())
            write_private(folder / INVITED, b"")
            self._await(client, set(files))
        finally:
            for file in files.values():
                file.unlink(missing_ok=True)

    def _await(self, client: LabClient, names: set[str]) -> None:
        begun_s, told = now_s(), 0
        while missing := sorted(names - {each.name for each in client.machines() if _is_there(each)}):
            waited_s = now_s() - begun_s
            if told and waited_s > self._joined_within_s:  # who is awaited is told first
                why = f"not in the lab after {self._joined_within_s:.0f} s (see what they say)"
                raise EdgebenchError(f"{listed(missing)}: {why}")
            if waited_s >= told * _TOLD_EVERY_S:
                told += 1
                self._tell(f"waiting for {listed(missing)} to join")
            sleep_s(_LOOK_S)


def _is_there(machine: MachineInfo) -> bool:
    """And not only held to be: a pod that was started anew comes back as the same machine, and loses what it was told
    before."""
    return machine.present and machine.last_seen_s is not None and machine.last_seen_s < _SEEN_WITHIN_S


def _until_ended(client: LabClient) -> None:
    """Until all have heard that the run is over, and have ended what they had of it: nobody tells them afterwards."""
    until_s = now_s() + _ENDED_WITHIN_S
    while any(each.holder for each in client.machines()) and now_s() < until_s:
        sleep_s(_LOOK_S)


@contextlib.contextmanager
def awaited_fleet(options: FleetOptions) -> Iterator[Fleet]:
    """See `OpenFleet`."""
    assert options.tokens is not None
    yield AwaitedFleet(options.tokens)
