"""The clients' half."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from flower_numpy.task import make_data, mean_squared_error, train

app = ClientApp()


@app.train()
def train_locally(message: Message, context: Context) -> Message:
    """Learn on the client's own data, from the server's weights on."""
    x, y = make_data(int(context.node_config["partition-id"]))
    (weights,) = message.content["arrays"].to_numpy_ndarrays()
    learned = train(
        weights,
        x,
        y,
        learning_rate=float(context.run_config["learning-rate"]),
        epochs=int(context.run_config["local-epochs"]),
    )
    metrics = MetricRecord({"num-examples": len(y), "train-loss": mean_squared_error(learned, x, y)})
    return Message(RecordDict({"arrays": ArrayRecord([learned]), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """How good the server's weights are on the client's own data."""
    x, y = make_data(int(context.node_config["partition-id"]))
    (weights,) = message.content["arrays"].to_numpy_ndarrays()
    metrics = MetricRecord({"num-examples": len(y), "eval-loss": mean_squared_error(weights, x, y)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
