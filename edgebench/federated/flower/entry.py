"""The two halves of a job, as Flower loads them in the processes that a SuperLink and its SuperNodes start."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from edgebench.errors import EdgebenchError, describe_error
from edgebench.federated.flower.clients import JOB, EngineClient, job_at
from edgebench.federated.flower.engine_job import serve
from edgebench.federated.flower.remote_listener import RemoteListener
from edgebench.topology.wording import one_line

SOCKET = "socket"
"""The setting that names the socket of whoever has started the job."""


def server_app() -> ServerApp:
    """The server's half."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        listener = RemoteListener(Path(str(context.run_config[SOCKET])))
        try:
            serve(job_at(str(context.run_config[JOB])), grid, listener)
        except Exception as error:
            listener.failed(one_line(str(error)) if isinstance(error, EdgebenchError) else describe_error(error))
            raise
        listener.done()

    return app


def client_app() -> EngineClient:
    """The half of every client."""
    return EngineClient()
