"""How sure a model is of its output."""

from __future__ import annotations

import numpy as np

from edgebench.inference.confidence import confidence


def test_of_a_yes_or_no_the_likelier_answer_counts() -> None:
    outputs = np.array([[0.1], [0.5], [0.75]], np.float32)
    assert confidence(outputs).tolist() == np.array([0.9, 0.5, 0.75], np.float32).tolist()


def test_of_classes_the_likeliest_counts() -> None:
    outputs = np.array([[0.2, 0.5, 0.3], [0.0, 0.0, 1.0]], np.float32)
    assert confidence(outputs).tolist() == [0.5, 1.0]
