"""Flower's simulation: a job's clients share the processes of a Ray cluster on this machine."""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from edgebench.errors import EdgebenchError
from edgebench.federated.flower.clients import EngineClient
from edgebench.federated.flower.engine_job import EngineJob, Listener, serve


def run_on_ray(job: EngineJob, listener: Listener, *, cpus: int | None = None) -> None:
    """Run a job to its end, in this process and those that Ray starts, one for each of `cpus` (none: this machine's).

    Ray changes this process's environment and leaves threads behind: give it a process of its own.
    Raises EdgebenchError, and whatever an app raises.
    """
    if importlib.util.find_spec("ray") is None:
        raise EdgebenchError("engine ray: Ray is not installed (pip install 'flwr[simulation]')")
    # A dashboard, statistics for its makers, and `uv` in the place of this interpreter: none of these.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    # Its agents look for a server that has been killed for a minute, and then end.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
    # Else its workers run at nice 15, and wait for minutes beside any other work on the machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Else Ray keeps the GPUs from every process that it gives none.
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    from flwr.server.superlink.fleet.vce.backend import BackendConfig
    from flwr.simulation import run_simulation

    server = ServerApp()
    failure: list[BaseException] = []

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        del context
        try:
            serve(job, grid, listener)
        except BaseException as error:
            failure.append(error)
            raise

    config: BackendConfig = {
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        "init_args": {"logging_level": logging.ERROR, "log_to_driver": False, "num_cpus": cpus or os.cpu_count() or 1},
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run_simulation(server, EngineClient(job), num_supernodes=job.clients, backend_config=config)
    except Exception:
        if failure:
            raise failure[0] from None
        raise
