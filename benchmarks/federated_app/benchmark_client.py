"""Adds one to every value: as good as no work, so that what is measured is the way there and back."""

from __future__ import annotations

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, _context: Context) -> Message:
    """Answer a round."""
    sent = message.content["arrays"]
    assert isinstance(sent, ArrayRecord)
    arrays = ArrayRecord([array + 1 for array in sent.to_numpy_ndarrays()])
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)
