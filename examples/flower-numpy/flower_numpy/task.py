"""The data, and what is learned on them."""

import numpy as np

TRUTH = np.array([2.0, -1.0, 0.5, 3.0])
N_SAMPLES = 64


def make_data(partition_id: int) -> tuple[np.ndarray, np.ndarray]:
    """The client's own samples: x [sample, feature] around a mean of its own, y [sample]."""
    rng = np.random.default_rng(partition_id)
    x = rng.normal(loc=0.2 * partition_id, size=(N_SAMPLES, len(TRUTH)))
    y = x @ TRUTH + rng.normal(scale=0.1, size=N_SAMPLES)
    return x, y


def train(weights: np.ndarray, x: np.ndarray, y: np.ndarray, learning_rate: float, epochs: int) -> np.ndarray:
    """Weights after so many steps of gradient descent on the mean squared error."""
    for _ in range(epochs):
        gradient = 2 * x.T @ (x @ weights - y) / len(y)
        weights = weights - learning_rate * gradient
    return weights


def mean_squared_error(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """How wrong the weights are."""
    return float(np.mean((x @ weights - y) ** 2))
