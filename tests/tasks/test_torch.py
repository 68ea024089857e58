"""Models train on torch as well as on TensorFlow: those with layers, losses or training steps of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
LEARN_ON_TORCH = """
import json, sys
import keras, numpy as np
from edgebench.tasks import task_named
from edgebench.tasks.task import Dataset, FitOptions

assert keras.backend.backend() == "torch"
task = task_named(sys.argv[1])
whole = task.load(None, seed=1)
few = {name: getattr(whole, name).rows(np.arange(48)) for name in ("train", "valid", "test")}
data = Dataset.of(few, source=whole.source, real=False, features=whole.features)
for size in ("light", "heavy"):
    seen = []
    model = task.fit(size, data, FitOptions(seed=1, epochs=1, examples=12, progress=seen.append))
    sound = all(np.isfinite(np.array(weight)).all() for weight in model.get_weights())
    print(json.dumps([size, len(seen), seen[0].loss, bool(sound)]))
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "task",
    [
        *(pytest.param(name, marks=pytest.mark.long) for name in ("sign-recognition", "person-reid")),
        "speech-recognition",
    ],
)
def test_both_sizes_learn_on_torch(task: str) -> None:
    env = {**os.environ, "KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LEARN_ON_TORCH, task], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert [(size, epochs, sound) for size, epochs, _, sound in found] == [("light", 1, True), ("heavy", 1, True)]
    assert all(np.isfinite(loss) and loss > 0 for _, _, loss, _ in found)
