"""The data, the model, and how it learns."""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

N_SAMPLES = 128


class Net(nn.Module):
    """From a point of the plane to the two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [sample, class] of points [sample, 2]."""
        return self.layers(x)


def make_data(partition_id: int, num_partitions: int) -> TensorDataset:
    """Points in the client's own sector, each on one of the two rings."""
    chance = torch.Generator().manual_seed(partition_id)
    ring = torch.randint(2, (N_SAMPLES,), generator=chance)
    sector = (partition_id + torch.rand(N_SAMPLES, generator=chance)) / num_partitions
    radius = 0.5 + ring + 0.1 * torch.randn(N_SAMPLES, generator=chance)
    angle = 2 * math.pi * sector
    return TensorDataset(torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1), ring)


def train(model: Net, data: TensorDataset, learning_rate: float, epochs: int, batch_size: int) -> float:
    """Stochastic gradient descent; the mean loss of the last epoch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
    model.train()
    losses: list[float] = []
    for _ in range(epochs):
        losses.clear()
        for x, y in DataLoader(data, batch_size=batch_size, shuffle=True):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def test(model: Net, data: TensorDataset) -> tuple[float, float]:
    """Loss and accuracy."""
    model.eval()
    x, y = data.tensors
    logits = model(x)
    return nn.functional.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()
