"""The server's half."""

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from flower_numpy.task import TRUTH

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Average what the clients learn."""
    strategy = FedAvg(fraction_train=float(context.run_config["fraction-train"]))
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord([np.zeros(len(TRUTH))]),
        num_rounds=int(context.run_config["num-server-rounds"]),
    )
    (weights,) = result.arrays.to_numpy_ndarrays()
    print(f"learned {weights.round(2)}, the truth is {TRUTH}")
    save_to = str(context.run_config["save-to"])
    if save_to:
        np.save(save_to, weights)
