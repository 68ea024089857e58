"""The two halves of a job, as Flower loads them in the processes that a SuperLink and its SuperNodes start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from edgebench.errors import reason_of
from edgebench.federated.flower.clients import JOB, EngineClient, job_at
from edgebench.federated.flower.engine_grid import PLACE
from edgebench.federated.flower.engine_job import serve
from edgebench.federated.flower.remote_listener import RemoteListener

SOCKET = "socket"
"""The setting that names the socket of whoever has started the job."""
LOGS = "logs"
"""The setting that names the folder for what an app prints, which Flower throws away."""


def server_app() -> ServerApp:
    """The server's half."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        _print_into(context, "serverapp")
        listener = RemoteListener(Path(str(context.run_config[SOCKET])))
        try:
            serve(job_at(str(context.run_config[JOB])), grid, listener)
        except Exception as error:
            listener.failed(reason_of(error))
            raise
        listener.done()

    return app


def client_app() -> EngineClient:
    """The half of every client."""
    return _PrintingClient()


class _PrintingClient(EngineClient):
    """Whose output is kept."""

    def __call__(self, message: Message, context: Context) -> Message:
        _print_into(context, f"clientapp-{context.node_config[PLACE]}")
        try:
            return super().__call__(message, context)
        finally:
            sys.stdout.flush()


def _print_into(context: Context, name: str) -> None:
    """Have whatever this process and its children print added to a file."""
    file = Path(str(context.run_config[LOGS])) / f"{name}.log"
    with file.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
