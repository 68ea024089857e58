"""Clients of the built-in app, in the process that learns."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from device_agent.learner_messages import BuiltInSpec, LearnerClient
from edgebench.federated.client_bundle import open_clients


class BuiltInClients:
    """The clients of one workload, which share its training step and its data."""

    def __init__(self, workload: BuiltInSpec, seed: int) -> None:
        self._clients = open_clients(Path(workload.bundle_dir))
        self._seed = seed

    def client(self, node: int) -> LearnerClient:
        """What answers for one of them."""
        return partial(self._clients.answer, node=node, seed=self._seed)
