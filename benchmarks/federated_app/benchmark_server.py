"""FedAvg over one float32 array. `stamps` names a file that gets a line as the app begins, and one after each round:
the time in ns by the machine's monotonic clock."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Learn for so many rounds, with all clients in each."""
    config = context.run_config
    clients, stamps = int(config["clients"]), Path(str(config["stamps"]))

    def stamp(_round: int, _arrays: ArrayRecord) -> MetricRecord | None:
        with stamps.open("a") as file:
            file.write(f"{time.monotonic_ns()}\n")  # noqa: TID251  (an app like a user's own, without edgebench)
        return None

    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord([np.zeros(int(config["values"]), np.float32)]),
        num_rounds=int(config["rounds"]),
        evaluate_fn=stamp,
    )
