"""Mistakes in the federated part of a topology: each is told with its place and its mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench import tasks
from edgebench.errors import TopologyError
from edgebench.topology import check, load, refuse_unenforceable
from tests.topology.sound import SOUND

FAKE = SOUND.replace("task: icu-death", "task: icu-death\n    model: {runtime: fake}")
ENTRY = "federated: [{workload: risk, rounds: 2%s}]\n"
APP = f"federated: [{{workload: risk, app: {Path(__file__).parents[2] / 'examples/flower-numpy'}, node_config: %s}}]\n"
ELSEWHERE = " on other machines, which are given neither its code nor Flower"
IN_CONTAINERS = ", since containers are given neither its code nor Flower"
TO_HERE = "(map bed to here in machines, or use --executor local)"
REMOVE = "(remove one of the two)"

BROKEN: dict[str, tuple[str, str]] = {
    "no rounds": (
        SOUND + "federated: [{workload: risk}]\n",
        "$.federated[0]: field 'rounds' is missing (give it, or the app that knows it)",
    ),
    "a workload twice": (
        SOUND + "federated: [{workload: risk, rounds: 2}, {workload: risk, rounds: 3}]\n",
        "$.federated[1].workload: 'risk' is federated twice (remove one)",
    ),
    "a model that learns nothing": (
        FAKE + ENTRY % "",
        "$.workloads.risk.model.runtime: a model of runtime 'fake' learns nothing (use litert)",
    ),
    "a start after the end": (
        SOUND + ENTRY % ", at_s: 10",
        "$.federated[0].at_s: 10 s is not within the run of 10 s (make it sooner, or raise duration_s)",
    ),
    "edge rounds without edges": (
        SOUND + ENTRY % ", edge_rounds: 2",
        f"$.federated[0].edge_rounds: has no effect without aggregate: [edge, cloud] {REMOVE}",
    ),
    "a buffer without its mode": (
        SOUND + ENTRY % ", buffer: {updates: 2}",
        f"$.federated[0].buffer: has no effect without mode: buffered {REMOVE}",
    ),
    "two ways to aggregate": (
        SOUND + ENTRY % ", mode: buffered, strategy: {name: Krum}",
        f"$.federated[0].strategy: mode 'buffered' has its own way to aggregate {REMOVE}",
    ),
    "a cohort of a buffered federation": (
        SOUND + ENTRY % ", mode: buffered, fraction: 0.5",
        f"$.federated[0].fraction: has no effect with mode: buffered {REMOVE}",
    ),
    "edges under another engine": (
        SOUND + ENTRY % ", engine: ray, aggregate: [edge, cloud]",
        "$.federated[0].aggregate: the engine ray knows no edges (write [cloud], or engine: mqtt)",
    ),
    "settings of an app without one": (
        SOUND + ENTRY % ", config: {lr: 0.1}",
        f"$.federated[0].config: has no effect without an app {REMOVE}",
    ),
    "learners under another engine": (
        SOUND + ENTRY % ", engine: ray, learners: {at_once: 2}",
        f"$.federated[0].learners: has no effect with engine: ray, which starts clients in its own way {REMOVE}",
    ),
    "threads of what has one": (
        SOUND + ENTRY % ", learners: {threads: 2}",
        f"$.federated[0].learners.threads: has no effect with fit: {{runtime: litert}}, one thread of a core {REMOVE}",
    ),
    "what clients have without an app": (
        SOUND + ENTRY % ", node_config: {data: /a}",
        f"$.federated[0].node_config: has no effect without an app {REMOVE}",
    ),
    "what nobody has": (
        SOUND + APP % "{bad: {data: /a}}",
        (
            "$.federated[0].node_config.bad: no source group or device of the workload has that name"
            " (did you mean 'bed'?); a setting of all is written by its dotted key (bad.data: …)"
        ),
    ),
    "settings of all in a table": (
        SOUND + APP % "{params: {deep: {eta: 0.1}}}",
        (
            "$.federated[0].node_config.params: no source group or device of the workload has that name"
            " (known: bed, bed-0, bed-1, bed-2); a setting of all is written by its dotted key (params.deep.eta: …)"
        ),
    ),
    "what clients are given anyway": (
        SOUND + APP % "{bed-0: {partition-id: 3}}",
        "$.federated[0].node_config.bed-0: 'partition-id' is given by the number of the client (remove it)",
    ),
    "what is no setting": (
        SOUND + APP % "{data: [1]}",
        "$.federated[0].node_config.data: setting 'data' is neither a number, a text, nor true or false",
    ),
}
SHAPES: dict[str, tuple[str, str]] = {
    "an unknown partition": (
        SOUND + ENTRY % ", partition: {kind: even}",
        "$.federated[0].partition.kind: 'even' is not",
    ),
    "a partition without its parameter": (
        SOUND + ENTRY % ", partition: {kind: dirichlet}",
        "$.federated[0].partition: field 'alpha' is missing",
    ),
    "a batch too large": (SOUND + ENTRY % ", batch_size: 5000", "$.federated[0].batch_size: 5000 is not"),
    "a step backwards": (SOUND + ENTRY % ", fit: {learning_rate: -1}", "$.federated[0].fit.learning_rate: -1 is not"),
    "an unknown engine": (SOUND + ENTRY % ", engine: grpc", "$.federated[0].engine: 'grpc' is not one of mqtt"),
}


def problems_of(text: str, folder: Path) -> list[str]:
    file = folder / "broken.yaml"
    file.write_text(text)
    with pytest.raises(TopologyError) as raised:
        check(load(file), file, tasks=tasks.names())
    return [problem.removeprefix(f"{file}: ") for problem in raised.value.problems]


@pytest.mark.parametrize("wrong", BROKEN)
def test_a_mistake_in_a_federation_is_told_with_its_place_and_its_mend(wrong: str, tmp_path: Path) -> None:
    text, problem = BROKEN[wrong]
    assert problems_of(text, tmp_path) == [problem]


@pytest.mark.parametrize("wrong", SHAPES)
def test_a_field_of_a_wrong_shape_is_told_with_its_path(wrong: str, tmp_path: Path) -> None:
    text, start = SHAPES[wrong]
    (problem,) = problems_of(text, tmp_path)
    assert problem.startswith(start)


def test_an_app_decides_what_the_built_in_one_is_told(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "pyproject.toml").write_text("[project]\nname = 'app'\n")
    text = SOUND + "federated: [{workload: risk, app: app, rounds: 2, aggregate: [edge, cloud], rollout_every: 3}]\n"
    assert problems_of(text, tmp_path) == [
        f"$.federated[0].rounds: has no effect with an app, which decides it {REMOVE}",
        f"$.federated[0].rollout_every: has no effect with an app, which decides it {REMOVE}",
        "$.federated[0].aggregate: edges aggregate for the built-in app only (write [cloud], or remove app)",
    ]


def test_a_folder_without_an_app_is_told(tmp_path: Path) -> None:
    text = SOUND + "federated: [{workload: risk, app: nowhere}]\n"
    assert problems_of(text, tmp_path) == [
        f"$.federated[0].app: no Flower app: {tmp_path / 'nowhere'} has no pyproject.toml (name the folder of one)"
    ]


def test_a_model_of_the_registry_cannot_learn_on(tmp_path: Path) -> None:
    source = "sha256:" + "0" * 64
    named = SOUND.replace("task: icu-death", f"task: icu-death\n    model: {{source: '{source}'}}")
    where, mend = "$.workloads.risk.model.source", "(set it to train)"
    problem = f"{where}: '{source}' cannot learn on: a federated model is trained here first {mend}"
    assert problems_of(named + ENTRY % "", tmp_path) == [problem]


@pytest.mark.parametrize(
    ("executor", "machines", "problem"),
    [
        ("local", "", None),
        ("lab", "", f"{ELSEWHERE} {TO_HERE}"),
        ("lab", "machines: {ward: pi-1, bed-1: pi-2}\n", f"{ELSEWHERE} {TO_HERE}"),
        ("lab", "machines: {ward: pi-1}\n", None),
        ("containers", "", f"{IN_CONTAINERS} (remove it, or use --executor local)"),
    ],
)
def test_an_app_is_refused_where_its_clients_would_find_neither_its_code_nor_flower(
    executor: str, machines: str, problem: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SOUND + APP % "{}" + machines)
    if problem is None:
        refuse_unenforceable(load(file), file, executor=executor)
        return
    with pytest.raises(TopologyError) as raised:
        refuse_unenforceable(load(file), file, executor=executor)
    assert raised.value.problems == [
        f"{file}: $.federated[0].app: the {executor} executor cannot enforce a Flower app of your own{problem}"
    ]
