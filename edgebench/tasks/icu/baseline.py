"""The classical model to hold against: logistic regression on summaries of the same 48 hours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.metrics import binary_metrics
from edgebench.tasks.task import Baseline, Dataset

NAME = "logistic regression on summaries of the same features"
_STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03)


def fit_baseline(dataset: Dataset) -> Baseline:
    """Fit on `dataset.train`, regularised as is best on `dataset.valid`, scored on `dataset.test`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, valid, test = (summaries(s.x) for s in (dataset.train, dataset.valid, dataset.test))
    best, outputs = -np.inf, np.zeros(len(test))
    for strength in _STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2_000))
        model.fit(train, dataset.train.y[:, 0])
        quality = binary_metrics(model.predict_proba(valid)[:, 1], dataset.valid.y)["auroc"]
        if quality > best:
            best, outputs = quality, model.predict_proba(test)[:, 1]
    return Baseline(name=NAME, metrics=binary_metrics(outputs, dataset.test.y))


def summaries(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Last, mean, least, greatest value and spread of every feature: [sample, 48, feature] -> [sample, 5 * feature]."""
    return np.concatenate([x[:, -1], x.mean(1), x.min(1), x.max(1), x.std(1)], axis=1)
