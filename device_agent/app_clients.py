"""Clients of a Flower app of the user's own, in a process that learns."""

from __future__ import annotations

from pathlib import Path

from device_agent.learner_messages import AppSpec, LearnerClient
from edgebench.federated.content import Head, Parcel, pack, read_parcel, write_parcel
from edgebench.federated.flower.apps import ClientRunner, client_app, load_app
from edgebench.federated.flower.messages import to_content, to_records


class AppClients:
    """The clients of one app, which share its code. Raises EdgebenchError where that cannot be imported."""

    def __init__(self, app: AppSpec, seed: int, states: Path) -> None:
        """states: a folder for what they keep between messages."""
        self._app = app
        self._seed = seed
        self._states = states
        self._configured = load_app(Path(app.path)).configured(app.config)
        self._client_app = client_app(self._configured)

    def client(self, node: int) -> LearnerClient:
        """What answers for one of them; it has a context of its own."""
        runner = ClientRunner(
            self._client_app,
            run_id=self._app.run_id,
            node_id=node,
            clients=self._app.clients,
            run_config=self._configured.run_config,
            seed=self._seed,
            node_config=self._app.node_configs.get(node, {}),
        )
        return _KeptClient(runner, self._states / str(node)).reply


class _KeptClient:
    """A client whose `context.state` lies in a file between messages, since the next may be for another process."""

    def __init__(self, runner: ClientRunner, file: Path) -> None:
        self._runner = runner
        self._file = file

    def reply(self, request: Parcel) -> Parcel:
        """As the runner's. Raises ContentError where the app keeps what no file can hold."""
        context = self._runner.context
        if self._file.exists():
            context.state = to_records(read_parcel(self._file).content)
        requests = [request]
        del request  # so that nothing here holds a large one while the client learns
        reply = self._runner.reply(requests.pop())
        state = to_content(context.state)
        if state or self._file.exists():
            # In one step: this process may be ended at any time.
            begun = self._file.with_suffix(".begun")
            write_parcel(begun, pack(Head(message_id="", kind="state"), state))
            begun.replace(self._file)
        context.state = to_records({})  # else every process would hold those of all clients
        return reply
