"""The same task with a plain torch module: it trains in the cloud, and runs as ONNX wherever it is placed."""

import torch
from bearing import SAMPLES, Bearing

from edgebench.tasks.task import Dataset


class TorchBearing(Bearing):
    name = "bearing_torch:TASK"
    epochs = 15

    def build(self, size: str, dataset: Dataset) -> torch.nn.Module:
        return Net()


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.listen = torch.nn.Sequential(
            torch.nn.Conv1d(1, 8, 9, stride=4), torch.nn.ReLU(), torch.nn.Conv1d(8, 16, 9, stride=4), torch.nn.ReLU()
        )
        self.decide = torch.nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [batch, 1] of vibrations [batch, 256, 1]."""
        return self.decide(self.listen(x.reshape(-1, 1, SAMPLES)).mean(dim=2))


TASK = TorchBearing()
