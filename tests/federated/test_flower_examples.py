"""The example apps: ordinary Flower projects that learn, and that know nothing of edgebench."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgebench.federated.flower.apps import ClientRunner, client_app, load_app, run_server_app
from edgebench.federated.flower.events import RoundSeen
from edgebench.federated.flower.grid import LocalGrid
from edgebench.federated.flower.observed import ObservedGrid

EXAMPLES = Path(__file__).parents[2] / "examples"
CLIENTS = 4


def learned(name: str, save_to: Path) -> list[RoundSeen]:
    app = load_app(EXAMPLES / name).configured({"save-to": str(save_to)})
    runners = [
        ClientRunner(client_app(app), run_id=1, node_id=node, clients=CLIENTS, run_config=app.run_config, seed=3)
        for node in range(1, CLIENTS + 1)
    ]
    rounds: list[RoundSeen] = []
    nodes = LocalGrid([runner.reply for runner in runners], run_id=1)
    run_server_app(app, ObservedGrid(nodes, seed=3, deadline_s=60, on_round=rounds.append))
    assert [outcome.error for seen in rounds for outcome in seen.outcomes if outcome.error] == []
    return rounds


def test_the_numpy_example_finds_the_relation(tmp_path: Path) -> None:
    rounds = learned("flower-numpy", tmp_path / "model.npy")
    assert [seen.round for seen in rounds if seen.kind == "train"] == [1, 2, 3]
    assert np.load(tmp_path / "model.npy") == pytest.approx([2.0, -1.0, 0.5, 3.0], abs=0.2)


def test_the_torch_example_tells_the_rings_apart_and_is_repeatable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    learned("flower-torch", tmp_path / "first.pt")
    accuracies = [float(found) for found in re.findall(r"accuracy ([\d.]+)", capsys.readouterr().out)]
    assert len(accuracies) == 9
    assert accuracies[-1] > 0.9
    learned("flower-torch", tmp_path / "second.pt")
    first, second = (torch.load(tmp_path / name, weights_only=True) for name in ("first.pt", "second.pt"))
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_no_flower_example_imports_edgebench() -> None:
    sources = [path for folder in EXAMPLES.glob("flower-*") for path in folder.rglob("*.py")]
    assert sources
    assert [path for path in sources if re.search(r"^\s*(import|from) edgebench", path.read_text(), re.MULTILINE)] == []
