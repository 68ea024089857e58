"""A federation for one of Flower's own engines: what it is, and how its server's half runs, wherever that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import msgspec
from flwr.serverapp import Grid

from edgebench.federated.content import arrays_in, read_parcel
from edgebench.federated.flower.apps import FlowerApp, run_server_app
from edgebench.federated.flower.built_in import run_built_in
from edgebench.federated.flower.engine_grid import EngineGrid
from edgebench.federated.flower.events import Learned, MetricsSeen, RoundSeen
from edgebench.federated.flower.observed import ObservedGrid
from edgebench.topology.model import Federated
from edgebench.topology.settings import Setting


class EngineNodes(msgspec.Struct, frozen=True):
    """The clients of the built-in app, wherever they run.

    factory: `module:function`; `function(node_id, clients, settings)` returns what answers a parcel with a parcel.
    """

    factory: str
    settings: dict[str, Any] = {}


class EngineJob(msgspec.Struct, frozen=True, kw_only=True):
    """Either the built-in app (`how`, `initial`, a file with the first model, and `nodes`), or an `app`.

    state_dir: where to keep what a restart goes on from. most_examples: how many each client has, by node id.
    node_configs: of an app's clients, by node id. files_dir: where each of these has a folder to stand in.
    """

    clients: int
    seed: int
    deadline_s: float
    min_replies: int = 1
    how: Federated | None = None
    initial: str | None = None
    nodes: EngineNodes | None = None
    app: FlowerApp | None = None
    state_dir: str | None = None
    most_examples: dict[int, int] | None = None
    node_configs: dict[int, dict[str, Setting]] = {}
    files_dir: str | None = None


class Listener(Protocol):
    """Who wants to know of a job's course."""

    def on_round(self, seen: RoundSeen) -> None:
        """A round is over."""

    def on_metrics(self, seen: MetricsSeen) -> None:
        """An app has made metrics of its last round."""

    def on_model(self, learned: Learned) -> None:
        """The built-in app has another model."""

    def before_round(self, number: int) -> None:
        """The built-in app is about to begin a round; this may wait."""


def serve(job: EngineJob, engine: Grid, listener: Listener) -> None:
    """The server's half of a job, over an engine's grid. Raises EdgebenchError, and whatever an app raises."""
    grid = ObservedGrid(
        EngineGrid.of(engine, job.clients, patience_s=job.deadline_s),
        seed=job.seed,
        deadline_s=job.deadline_s,
        min_replies=job.min_replies,
        on_round=listener.on_round,
        on_metrics=listener.on_metrics,
    )
    state_dir = None if job.state_dir is None else Path(job.state_dir)
    if job.app is not None:
        run_server_app(job.app, grid, state_dir=state_dir)
        return
    assert job.how is not None
    assert job.initial is not None
    run_built_in(
        grid,
        job.how,
        arrays_in(read_parcel(Path(job.initial)).content),
        seed=job.seed,
        on_model=listener.on_model,
        before_round=listener.before_round,
        state_dir=state_dir,
        most_examples=job.most_examples,
    )
