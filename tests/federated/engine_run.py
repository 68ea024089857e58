"""Runs a job on one of Flower's engines in a process of its own.

python -m tests.federated.engine_run ray|superlink JOB.json DIRECTORY

In the directory it leaves `rounds.json`, the last model as `model.ebf`, and the engine's logs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from edgebench.federated.content import Arrays, Head, pack, write_parcel
from edgebench.federated.flower.engine_job import EngineJob
from edgebench.federated.flower.events import Learned, MetricsSeen, RoundSeen


class Keeping:
    """Keeps what it is told."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.rounds: list[RoundSeen] = []
        self.metrics: list[MetricsSeen] = []

    def on_round(self, seen: RoundSeen) -> None:
        self.rounds.append(seen)
        (self._directory / "rounds.json").write_bytes(msgspec.json.encode(self.rounds))

    def on_metrics(self, seen: MetricsSeen) -> None:
        self.metrics.append(seen)
        (self._directory / "metrics.json").write_bytes(msgspec.json.encode(self.metrics))

    def on_model(self, learned: Learned) -> None:
        head = Head(message_id=str(learned.round), kind="model")
        write_parcel(self._directory / "model.ebf", pack(head, {"arrays": Arrays(learned.arrays)}))

    def before_round(self, number: int) -> None:
        assert number == len(self.rounds) + 1


def main() -> None:
    engine, job_path, directory = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    job = msgspec.json.decode(job_path.read_bytes(), type=EngineJob)
    if engine == "ray":
        from edgebench.federated.flower.simulation import run_on_ray

        run_on_ray(job, Keeping(directory), cpus=2)
    else:
        from edgebench.federated.flower.superlink import run_on_superlink

        run_on_superlink(job, Keeping(directory), log_dir=directory / "logs")


if __name__ == "__main__":
    main()
