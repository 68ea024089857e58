"""Tasks are found by name, or as a user's own object."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgebench.errors import EdgebenchError
from edgebench.tasks import names, task_named


def test_the_three_icu_tasks_are_built_in() -> None:
    icu = ("icu-death", "icu-decompensation", "icu-heart-failure")
    assert names()[:3] == icu
    for name in icu:
        task = task_named(name)
        assert (task.name, task.scenario, task.metric) == (name, "icu", "auroc")
        assert tuple(task.models) == ("light", "heavy", "published")


def test_person_reid_is_built_in() -> None:
    task = task_named("person-reid")
    assert (task.name, task.scenario, task.metric) == ("person-reid", "surveillance", "rank1")
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
    labels = np.zeros((2, 3 if name == "person-reid" else 1), np.float32)
    labels[1, -1] = 1
    task_named(name).score(np.array([[0.2], [0.9]], np.float32), labels)
print(sorted({"keras", "tensorflow", "sklearn", "duckdb", "pyarrow"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
