"""Tasks are found by name, or as a user's own object."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgebench.errors import EdgebenchError
from edgebench.tasks import names, task_named

BUILT_IN = {
    "icu-death": ("icu", "auroc"),
    "icu-decompensation": ("icu", "auroc"),
    "icu-heart-failure": ("icu", "auroc"),
    "lane-detection": ("vehicle", "accuracy"),
}


def test_the_tasks_are_built_in() -> None:
    assert names() == tuple(BUILT_IN)
    for name in names():
        task = task_named(name)
        assert (task.name, task.scenario, task.metric) == (name, *BUILT_IN[name])
        assert tuple(task.models) == ("light", "heavy", "published")


def test_a_users_own_task_is_named_by_module_and_attribute() -> None:
    assert task_named("edgebench.tasks.icu.task:DEATH") is task_named("icu-death")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("icu-deaht", "no task 'icu-deaht' (did you mean 'icu-death'?); there are icu-death, icu-decompensation"),
        ("chess", "no task 'chess'; there are icu-death"),
        ("no_such_package.ward:TASK", "no module 'no_such_package'"),
        ("edgebench.tasks.ward:TASK", "no module 'edgebench.tasks.ward'"),
        ("edgebench.tasks:WARD", "module 'edgebench.tasks' has no 'WARD'"),
        (":TASK", "give module:attribute"),
        ("edgebench.tasks:names", "not a task, it lacks name, scenario"),
    ],
)
def test_a_name_that_is_no_task_says_what_to_give(name: str, message: str) -> None:
    with pytest.raises(EdgebenchError) as caught:
        task_named(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_finding_and_scoring_a_task_imports_no_heavy_library() -> None:
    program = """
import sys
import numpy as np
from edgebench.tasks import names, task_named
for name in names():
    # Outputs and labels of a shape that the task knows.
    outputs, labels = (384, 280) if name == "lane-detection" else (1, 1)
    scores = np.linspace(0, 1, 2 * outputs, dtype=np.float32).reshape(2, -1)
    task_named(name).score(scores, np.eye(2, labels, dtype=np.float32))
print(sorted({"keras", "tensorflow", "sklearn", "duckdb", "pyarrow"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
