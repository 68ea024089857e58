"""Clients of a Flower app of the user's own, in the process that learns."""

from __future__ import annotations

from pathlib import Path

from device_agent.learner import Answer, App
from edgebench.federated.flower.apps import ClientRunner, client_app, load_app


def client_of(app: App, node: int, seed: int) -> Answer:
    """What answers for one client. Raises EdgebenchError where the app cannot be imported."""
    configured = load_app(Path(app.path)).configured(app.config)
    runner = ClientRunner(
        client_app(configured),
        run_id=app.run_id,
        node_id=node,
        clients=app.clients,
        run_config=configured.run_config,
        seed=seed,
    )
    return runner.reply
