"""Tasks are found by name, or as a user's own object."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgebench.errors import EdgebenchError, TaskError
from edgebench.tasks import names, task_named

ICU = ("icu-death", "icu-decompensation", "icu-heart-failure")


def test_the_built_in_tasks_have_their_names_and_the_three_sizes() -> None:
    assert names()[:3] == ICU
    for name in names():
        task = task_named(name)
        assert task.name == name
        assert tuple(task.models) == ("light", "heavy", "published") or name == "occupancy"


def test_action_recognition_is_built_in() -> None:
    task = task_named("action-recognition")
    assert (task.name, task.scenario, task.metric) == ("action-recognition", "surveillance", "top1")
    assert tuple(task.models) == ("light", "heavy", "published")


def test_face_recognition_is_built_in() -> None:
    task = task_named("face-recognition")
    assert (task.name, task.scenario, task.metric) == ("face-recognition", "smart-home", "auc")
    assert tuple(task.models) == ("light", "heavy", "published")


def test_person_reid_is_built_in() -> None:
    task = task_named("person-reid")
    assert (task.name, task.scenario, task.metric) == ("person-reid", "surveillance", "rank1")
    assert tuple(task.models) == ("light", "heavy", "published")


def test_a_users_own_task_is_named_by_module_and_attribute() -> None:
    own = task_named("edgebench.tasks.icu.task:DEATH")
    assert (own.name, own.metric, own.loss) == ("edgebench.tasks.icu.task:DEATH", "auroc", "binary_crossentropy")
    assert type(task_named("icu-death")) is not type(own)  # whose answers are checked


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("icu-deaht", "no task 'icu-deaht' (did you mean 'icu-death'?); there are icu-death, icu-decompensation"),
        ("chess", "no task 'chess'; there are icu-death"),
        ("no_such_package.ward:TASK", "no module 'no_such_package'"),
        ("edgebench.tasks.ward:TASK", "no module 'edgebench.tasks.ward'"),
        ("edgebench.tasks:WARD", "module 'edgebench.tasks' has no 'WARD'"),
        (":TASK", "give module:attribute"),
        ("edgebench.tasks:", "give module:attribute"),
        (".tasks:TASK", "give module:attribute"),
        ("edgebench.tasks:names", "not a task, it lacks name, scenario"),
    ],
)
def test_a_name_that_is_no_task_says_what_to_give(name: str, message: str) -> None:
    with pytest.raises(EdgebenchError) as caught:
        task_named(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_library", "its module imports 'no_such_library', which is not there (install it, or set PY"),
        (
            "import torch.no_such",
            "its module imports 'torch.no_such', which is not there (pip install 'edgebench[torch]')",
        ),
        ("TASK = (", "its module cannot be imported: SyntaxError: '(' was never closed (broken_task.py, line 1)"),
        ("TASK = 1 / 0", "its module cannot be imported: ZeroDivisionError: division by zero ("),
        ("raise ValueError", "its module cannot be imported: ValueError ("),
        ("import sys; sys.exit(3)", "its module cannot be imported: SystemExit: 3 ("),
    ],
)
def test_a_task_whose_module_does_not_import_is_told_in_one_line(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_task.py").write_text(text + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken_task", raising=False)
    with pytest.raises(TaskError) as caught:
        task_named("broken_task:TASK")
    assert str(caught.value).startswith(f"task 'broken_task:TASK': {said}")
    assert "\n" not in str(caught.value)


def test_finding_and_scoring_a_task_imports_no_heavy_library() -> None:
    program = """
import sys
import numpy as np
from edgebench.tasks import names, task_named
for name in names():
    if name.startswith("icu"):
        task_named(name).score(np.array([[0.2], [0.9]], np.float32), np.array([[0], [1]], np.float32))
heavy = "keras tensorflow torch sklearn scipy duckdb pyarrow PIL soundfile av"
print(sorted(set(heavy.split()) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
