"""The clients' half."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch.utils.data import TensorDataset

from flower_torch.task import Net, make_data, test, train

app = ClientApp()


def own_data(context: Context) -> TensorDataset:
    """The data of this client."""
    return make_data(int(context.node_config["partition-id"]), int(context.node_config["num-partitions"]))


@app.train()
def train_locally(message: Message, context: Context) -> Message:
    """Learn on the client's own data, from the server's model on."""
    model = Net()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    data = own_data(context)
    loss = train(
        model,
        data,
        learning_rate=float(context.run_config["learning-rate"]),
        epochs=int(context.run_config["local-epochs"]),
        batch_size=int(context.run_config["batch-size"]),
    )
    metrics = MetricRecord({"num-examples": len(data), "train-loss": loss})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """How good the server's model is on the client's own data."""
    model = Net()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    data = own_data(context)
    loss, accuracy = test(model, data)
    metrics = MetricRecord({"num-examples": len(data), "eval-loss": loss, "eval-accuracy": accuracy})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
