"""The client's part of the app; see the server's."""

from __future__ import annotations

import time
from pathlib import Path

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    time.sleep(float(context.run_config["takes-s"]))
    number = int(context.node_config["partition-id"]) + 1
    if str(number) == str(context.run_config["garbage"]):
        raise ValueError("this client has nothing to say")
    with Path("answers.txt").open("a", encoding="utf-8") as file:  # as many apps leave things where they stand
        file.write(f"{number}\n")
    arrays = [array + number for array in message.content.array_records["arrays"].to_numpy_ndarrays()]
    metrics = MetricRecord({"num-examples": number, "loss": 1.0 / number})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)
