"""The server's half."""

import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from flower_torch.task import Net, make_data, test

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Average what the clients learn, and test it on points all around."""
    held_out = make_data(partition_id=0, num_partitions=1)

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        model = Net()
        model.load_state_dict(arrays.to_torch_state_dict())
        loss, accuracy = test(model, held_out)
        print(f"round {server_round}: loss {loss:.3f}, accuracy {accuracy:.2f}")
        return MetricRecord({"loss": loss, "accuracy": accuracy})

    torch.manual_seed(1)
    result = FedAvg(fraction_evaluate=0.5).start(
        grid=grid,
        initial_arrays=ArrayRecord(Net().state_dict()),
        num_rounds=int(context.run_config["num-server-rounds"]),
        evaluate_fn=evaluate,
    )
    save_to = str(context.run_config["save-to"])
    if save_to:
        torch.save(result.arrays.to_torch_state_dict(), save_to)
