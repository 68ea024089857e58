"""An app whose result can be worked out by hand: each client adds its number to every value, and examples weigh."""

from __future__ import annotations

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    start = ArrayRecord([np.zeros(int(config["values"]), np.float32)])
    result = FedAvg(fraction_evaluate=0.0).start(grid=grid, initial_arrays=start, num_rounds=int(config["rounds"]))
    if config["out"]:
        np.save(str(config["out"]), result.arrays.to_numpy_ndarrays()[0])
