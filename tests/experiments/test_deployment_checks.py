"""What only tasks and Flower can say of a topology is said by `validate`, all of it, with place and mend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from edgebench.cli import main
from edgebench.fabric.brokers import mosquitto
from tests.cloud.tiny import TinyTask
from tests.topology.sound import SOUND

LEARNED = SOUND + "federated: [{workload: risk, rounds: 2}]\n"
CASCADE = "workloads.risk.place={infer: cascade}"
WITH_KERAS = "federated[0].fit.runtime=keras"


@dataclass(frozen=True)
class _OfLoss(TinyTask):
    loss: object = None


WRONG_LOSS, SOUND_LOSS = _OfLoss(loss="mse"), _OfLoss(loss="mean_squared_error")
NAMED = "binary_crossentropy, sparse_categorical_crossentropy, mean_squared_error"
LOSSES = f"{NAMED} (name one of these, or give a function)"
OF_KERAS = "and occupancy has models of Keras (write litert)"
NOT_WHAT_IS_GIVEN = "not what another gives for them (name a task of your own, whose model takes dataset.spec)"
KERAS_ONLY = "a loss of its own, by which devices learn with Keras only"
UNSURE = "no probabilities, so nothing tells how sure a model is (use device, edge or cloud)"


def validated(text: str, task: str, tmp_path: Path, *overrides: str) -> int:
    file = tmp_path / "topology.yaml"
    file.write_text(text.replace("icu-death", task))
    return main(["validate", str(file), *(word for each in overrides for word in ("--set", each))])


@pytest.mark.parametrize(
    ("text", "task", "overrides", "problem"),
    [
        (
            SOUND,
            "no_such:TASK",
            (),
            "$.workloads.risk.task: task 'no_such:TASK': no module 'no_such' (is it installed, or on PYTHONPATH?)",
        ),
        (
            SOUND,
            "tests.cloud.tiny:TSK",
            (),
            "$.workloads.risk.task: task 'tests.cloud.tiny:TSK': module 'tests.cloud.tiny' has no 'TSK'",
        ),
        (
            SOUND,
            "occupancy",
            ("workloads.risk.model.size=published",),
            "$.workloads.risk.model.size: occupancy has no 'published' (write light or heavy)",
        ),
        (
            SOUND,
            "occupancy",
            ("workloads.risk.model.runtime=onnx",),
            f"$.workloads.risk.model.runtime: onnx files are made of torch modules, {OF_KERAS}",
        ),
        (
            SOUND,
            "icu-death",
            ("workloads.risk.place={infer: [edge, cloud]}", "workloads.risk.head={task: icu-death}"),
            f"$.workloads.risk.task: models of icu-death take its own samples, {NOT_WHAT_IS_GIVEN}",
        ),
        (
            LEARNED,
            "person-reid",
            (),
            f"$.federated[0].fit.runtime: person-reid has {KERAS_ONLY} (write keras or torch)",
        ),
        (
            LEARNED,
            "lane-detection",
            (),
            "$.federated[0].workload: lane-detection has no loss by which devices could learn (remove the entry)",
        ),
        (
            LEARNED,
            f"{__name__}:WRONG_LOSS",
            (WITH_KERAS,),
            f"$.federated[0].workload: the loss of {__name__}:WRONG_LOSS, 'mse', is none of {LOSSES}",
        ),
        (
            SOUND,
            "face-recognition",
            (CASCADE,),
            f"$.workloads.risk.place.infer: no cascade: the outputs of face-recognition are {UNSURE}",
        ),
    ],
)
def test_validate_refuses_what_a_task_cannot_do(
    text: str, task: str, overrides: tuple[str, ...], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validated(text, task, tmp_path, *overrides) == 2
    assert capsys.readouterr().err.splitlines() == [f"{tmp_path / 'topology.yaml'}: {problem}"]


def test_what_tasks_and_what_flower_says_comes_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ("workloads.risk.model.size=published", "federated[0].strategy.name=FedAvgg", "federated[0].min_replies=99")
    assert validated(LEARNED, "occupancy", tmp_path, *wrong) == 2
    places = [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()]
    assert places == ["$.workloads.risk.model.size", "$.federated[0].min_replies", "$.federated[0].strategy"]


def test_a_broker_that_is_asked_for_and_not_installed_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosquitto, "_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert validated(SOUND, "icu-death", tmp_path, "broker.kind=nats") == 0
    assert validated(SOUND, "icu-death", tmp_path) == 0
    capsys.readouterr()
    assert validated(SOUND, "icu-death", tmp_path, "broker.kind=mosquitto") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'topology.yaml'}: $.broker.kind: Mosquitto is not installed (apt-get install")


@pytest.mark.parametrize("task", ["person-reid", f"{__name__}:SOUND_LOSS"])
def test_a_loss_is_fine_where_devices_can_learn_by_it(task: str, tmp_path: Path) -> None:
    assert validated(LEARNED, task, tmp_path, WITH_KERAS) == 0


def test_packages_of_a_flower_app_that_are_not_installed_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "pyproject.toml").write_text(
        "[project]\ndependencies = ['flwr>=1', 'no-such-package>=3']\n"
        "[tool.flwr.app.components]\nserverapp = 'a:b'\nclientapp = 'a:b'\n"
    )
    assert validated(SOUND + "federated: [{workload: risk, app: app}]\n", "icu-death", tmp_path) == 2
    why = "the app needs no-such-package>=3, not installed on this machine (pip install 'no-such-package>=3')"
    assert capsys.readouterr().err == f"{tmp_path / 'topology.yaml'}: $.federated[0].app: {tmp_path / 'app'}: {why}\n"
