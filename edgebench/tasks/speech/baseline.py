"""stub"""
from __future__ import annotations
from edgebench.tasks.task import Baseline, Dataset
def fit_baseline(dataset: Dataset) -> Baseline:
    return Baseline("stub", {"word_accuracy": 0.0})
