"""Clients of a Flower app of the user's own, in the process that learns."""

from __future__ import annotations

from pathlib import Path

from device_agent.learner_messages import AppSpec, LearnerClient
from edgebench.federated.flower.apps import ClientRunner, client_app, load_app


class AppClients:
    """The clients of one app, which share its code. Raises EdgebenchError where that cannot be imported."""

    def __init__(self, app: AppSpec, seed: int) -> None:
        self._app = app
        self._seed = seed
        self._configured = load_app(Path(app.path)).configured(app.config)
        self._client_app = client_app(self._configured)

    def client(self, node: int) -> LearnerClient:
        """What answers for one of them; it has a context of its own."""
        return ClientRunner(
            self._client_app,
            run_id=self._app.run_id,
            node_id=node,
            clients=self._app.clients,
            run_config=self._configured.run_config,
            seed=self._seed,
            node_config=self._app.node_configs.get(node, {}),
        ).reply
