from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from benchmarks.flower_apps import prepare, why
from edgebench.federated.flower.apps import load_app
from edgebench.topology.loading import load

APP = """
[project]
name = "made-up"
dependencies = []
[tool.flwr.app.components]
serverapp = "a:app"
clientapp = "b:app"
[tool.flwr.app.config]
num_server_rounds = 60
local_epochs = 2
path_to_dataset = "dataset"
"""
"""Of statavg's form."""


def test_an_app_is_given_fewer_rounds_and_a_folder_with_data_of_the_columns_that_it_reads(tmp_path: Path) -> None:
    folder = tmp_path / "statavg"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(APP, "utf-8")
    for name in ("a.py", "b.py"):
        (folder / name).touch()
    topology = load(prepare(load_app(folder), tmp_path / "out", tmp_path, rounds=2, patience_s=60))
    (federated,) = topology.federated
    assert federated.app == str(folder)
    assert federated.config["num_server_rounds"] == 2
    assert federated.config["local_epochs"] == 1
    assert topology.nodes["device"].count == 5
    with Path(str(federated.config["path_to_dataset"]), "dataset.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    inputs = [name for name in rows[0] if name not in ("PID", "CMD", "label", "type")]
    assert len(inputs) == 8  # its input_shape
    assert sorted(Counter(row["type"] for row in rows).values()) == [666, 666, 667, 667, 667, 667]


def test_why_an_app_does_not_run_names_no_path_of_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    said = f"{folder}: a.client_app:app: KeyError: '0' (/opt/x/site-packages/flwr/app.py, line 57)"
    assert why(said, folder) == "fails: vit: a.client_app:app: KeyError: '0' (flwr/app.py, line 57)"
    assert why(f"OSError ({folder}/a/b.py, line 2)", folder) == "fails: OSError (a/b.py, line 2)"
    assert why("URLError: a|b", folder) == "needs a download: URLError: a/b"
