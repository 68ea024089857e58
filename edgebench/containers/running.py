"""The containers of one run: a network for each site, and machines that join its lab."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgebench.clock import now_s, sleep_s
from edgebench.containers.cleaning import remove_run
from edgebench.containers.commands import own_mark
from edgebench.containers.engine import Engine, EngineError
from edgebench.containers.images import limits_of
from edgebench.containers.made import COMMAND, RUN, Network
from edgebench.containers.plan import ContainerKind, ContainerPlan
from edgebench.lab.listening import own_addresses
from edgebench.lab.operator import LabClient
from edgebench.topology.wording import listed

TOKEN_VARIABLE = "EDGEBENCH_TOKEN"  # noqa: S105  (its name)
_TOKEN_S = 600.0
_AT_ONCE = 8
_JOINED_WITHIN_S = 120.0
_LOOK_S = 0.1


class Containers:
    """Those of a run, from `with` to its end, which removes all of it."""

    def __init__(
        self, engine: Engine, plans: Sequence[ContainerPlan], images: Mapping[ContainerKind, str], run_id: str
    ) -> None:
        self._engine = engine
        self._plans = plans
        self._images = images
        self._run_id = run_id
        self._labels = {RUN: run_id, COMMAND: own_mark()}
        self._networks: dict[str, Network] = {}
        self._ids: dict[str, str] = {}

    def __enter__(self) -> Containers:
        try:
            for site in dict.fromkeys(site for plan in self._plans for site in plan.sites):
                self._networks[site] = self._engine.make_network(f"edgebench-{self._run_id}-{site}", self._labels)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def join(self, lab: LabClient, port: int) -> None:
        """Start all, each with a token of its own, and return when the lab has heard of each. Raises EngineError."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            # Not one of them knows of the other, so they start side by side.
            self._ids = dict(pool.map(lambda plan: self._started(plan, lab, port), self._plans))
        if not {network.gateway for network in self._networks.values()} <= set(own_addresses()):
            raise EngineError(
                "the engine's networks do not end on this computer (it is in a virtual machine, or elsewhere): "
                "use one of this computer, by DOCKER_HOST"
            )
        until_s = now_s() + _JOINED_WITHIN_S
        while missing := set(self._ids) - {each.name for each in lab.machines() if each.present}:
            for name in missing:
                if not self._engine.state(self._ids[name]).get("Running"):
                    raise EngineError(f"container {name} has ended before it joined: {self._last_words(name)}")
            if now_s() > until_s:
                name = min(missing)
                raise EngineError(
                    f"{listed(sorted(missing))}: not in the lab after {_JOINED_WITHIN_S:.0f} s; the last of {name}: "
                    f"{self._last_words(name)} (does a firewall keep containers from this computer?)"
                )
            sleep_s(_LOOK_S)

    def keep_logs(self, folder: Path) -> None:
        """What `edgebench join` has said in each, below a folder a container."""
        for name, container in self._ids.items():
            target = folder / name / "join.log"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self._engine.said(container), "utf-8")

    def out_of_memory(self) -> Iterator[str]:
        """Those in which something was killed for want of memory, and of how much."""
        for plan in self._plans:
            if plan.memory_mb is not None and self._engine.state(self._ids[plan.name]).get("OOMKilled"):
                yield f"container {plan.name}, limited to {plan.memory_mb:,} MB, had too little memory"

    def _started(self, plan: ContainerPlan, lab: LabClient, port: int) -> tuple[str, str]:
        networks = [self._networks[site] for site in plan.sites]
        # By the gateway of its own site: where it listens is then an address of that network.
        url = f"https://{networks[0].gateway}:{port}"
        token = lab.invite(plan.kind, _TOKEN_S).token
        container = self._engine.make_container(
            f"edgebench-{self._run_id}-{plan.name}",
            self._images[plan.kind],
            ("join", url, "--name", plan.name),
            networks,
            {TOKEN_VARIABLE: token},
            limits_of(plan),
            self._labels,
        )
        self._engine.start(container)
        return plan.name, container

    def _last_words(self, name: str) -> str:
        lines = self._engine.said(self._ids[name]).strip().splitlines()
        return lines[-1] if lines else "it has said nothing"

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            remove_run(self._engine, self._run_id)
