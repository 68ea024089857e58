"""What learning together is worth: federated, central and local-only training of one model, scored on the same samples.

    python benchmarks/federated_quality.py --data DIR [--json]
    python benchmarks/federated_quality.py --quick [--json]

DIR holds PhysioNet 2012, whose training patients are dealt to 8 clients by the type of intensive care unit. All three
begin with the task's light model as a topology's first model is trained: one epoch on `--examples` patients. Clients
are the built-in ones with LiteRT training steps, guarded and averaged as in a run (FedAvg), but in this process: the
network changes no bit of it. `--quick` takes generated patients, dealt by Dirichlet, and next to no rounds, to see
that it runs; its figures mean little. `--split valid` scores on the validation split: settings are chosen by that,
never by the test split.

Keys of the printed object; each of the first four is `{mean, std, values}` over the seeds:

start_auroc: of the first model.
federated_auroc: after `rounds` rounds in which each client trains `local_epochs` epochs.
central_auroc: of the light model trained on all training patients in one place, with all that `edgebench train` does:
    Adam, dropout, and of all epochs the one that is best on the validation split.
local_auroc: of a client that is left alone: the mean over the clients, each from the same start and for the same
    number of epochs as in the federation.
federated_below_central: central minus federated, of the means; federated_above_local: federated minus local.
rounds_auroc: of the global model after each round, the mean over the seeds.
local_rounds_auroc: of the clients' own models after as many epochs, the mean over clients and seeds: where it falls, a
    client learns its few patients by heart, and would do better to stop.
clients: of the last seed, for each: `rows`, `positive` (share), `local_auroc`.
refused: replies that the guard refused, over all seeds.
settings, data: what was done, to what; `data.scored_on` is the split.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cloud.export import QUIET, Converter, StepConversion
from edgebench.federated.aggregate import weighted_mean
from edgebench.federated.client import BuiltInClient
from edgebench.federated.content import Array, Arrays, Config, Head, Parcel, arrays_in, metrics_in
from edgebench.federated.litert_stepper import LiteRtStepper
from edgebench.federated.partition import PartitionFile, describe, partition, write_partitions
from edgebench.federated.reply_checks import EXAMPLES, Guard
from edgebench.tasks import task_named
from edgebench.tasks.task import Dataset, FitOptions, Split, Task
from edgebench.topology.model import Dirichlet, Natural

if TYPE_CHECKING:
    import keras

CLIENTS = 8
MAX_UPDATE_RATIO = 5.0
Model = dict[str, Array]
ScoredOn = Literal["valid", "test"]


@dataclass(frozen=True)
class Settings:
    """How the federation learns; the names are those of a topology."""

    examples: int = 300
    rounds: int = 5
    local_epochs: int = 8
    batch_size: int = 32
    learning_rate: float = 0.005
    momentum: float = 0.9
    clip_norm: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """AUROC by what was trained, of one seed. rounds: after each; local: [client][round]."""

    start: float
    rounds: list[float]
    central: float
    local: list[list[float]]
    refused: int


class Federation:
    """The clients of one seed, and the Keras model that their weights are scored with."""

    def __init__(self, directory: Path, model: keras.Model, task: Task, scored: Split, settings: Settings, seed: int):
        self._client = BuiltInClient(lambda: LiteRtStepper(directory / "step.tflite"), PartitionFile(directory))
        self._model = model
        self._task = task
        self._scored = scored
        self._settings = settings
        self._seed = seed
        self.refused = 0

    def learned(self, start: Model, nodes: Sequence[int]) -> list[Model]:
        """The global model after each round of these clients."""
        models = [start]
        for number in range(1, self._settings.rounds + 1):
            models.append(self._round(models[-1], nodes, number))
        return models[1:]

    def auroc(self, weights: Model) -> float:
        """Of the model with these weights."""
        from cloud.client_bundles import set_weights

        set_weights(self._model, {name: array.numpy() for name, array in weights.items()})
        return auroc_of(self._model, self._task, self._scored)

    def _round(self, model: Model, nodes: Sequence[int], number: int) -> Model:
        how = self._settings
        config = {
            "local-epochs": how.local_epochs,
            "batch-size": how.batch_size,
            "learning-rate": how.learning_rate,
            "momentum": how.momentum,
            "clip-norm": how.clip_norm,
        }
        head = Head(message_id=f"round-{number}", kind="train", group=str(number))
        request = Parcel(head, {"arrays": Arrays(model), "config": Config(config)})
        replies = [self._client.answer(request, node, self._seed) for node in nodes]
        guard = Guard(model, MAX_UPDATE_RATIO)
        for reply in replies:
            if (reason := guard.check(reply)) is not None:
                raise SystemExit(f"a client failed: {reason}")
        outliers = guard.outliers(replies)
        self.refused += len(outliers)
        good = [reply for index, reply in enumerate(replies) if index not in outliers]
        return weighted_mean((arrays_in(reply.content) for reply in good), [examples_of(reply) for reply in good])


def examples_of(reply: Parcel) -> float:
    """What a sound reply is weighted by."""
    examples = metrics_in(reply.content)[EXAMPLES]
    assert isinstance(examples, int)
    return examples


def auroc_of(model: keras.Model, task: Task, scored: Split) -> float:
    """Of a model, on a split."""
    from edgebench.tasks.models import outputs_of

    return task.score(outputs_of(model, scored.x), scored.y)["auroc"]


def outcome(
    task: Task, data: Dataset, settings: Settings, seed: int, scored_on: ScoredOn, converter: Converter, directory: Path
) -> Outcome:
    """Everything, for one seed."""
    import keras

    from cloud.client_bundles import weights_of

    directory.mkdir()
    scored: Split = getattr(data, scored_on)
    central = task.fit("light", data, FitOptions(seed=seed))
    model = task.fit("light", data, FitOptions(seed=seed, epochs=1, examples=settings.examples))
    assert isinstance(model, keras.Model)
    keras_file = directory / "model.keras"
    model.save(keras_file)
    step, loss = str(directory / "step.tflite"), task.loss
    assert not callable(loss)
    converter.convert_step(StepConversion(task.name, str(keras_file), loss, settings.batch_size, step))
    write_partitions(data.train, parts_of(data, seed), directory)
    start = {name: Array.of(weight) for name, weight in weights_of(model).items()}
    federation = Federation(directory, model, task, scored, settings, seed)
    nodes = range(1, CLIENTS + 1)
    rounds = federation.learned(start, nodes)
    found = Outcome(
        start=federation.auroc(start),
        rounds=[federation.auroc(each) for each in rounds],
        central=auroc_of(central, task, scored),
        local=[[federation.auroc(each) for each in federation.learned(start, [node])] for node in nodes],
        refused=federation.refused,
    )
    _tell(
        f"seed {seed}: start {found.start:.4f}, federated {' '.join(f'{each:.4f}' for each in found.rounds)}, "
        f"central {found.central:.4f}, local {' '.join(f'{each:.4f}' for each in _means(found.local))}"
    )
    return found


def parts_of(data: Dataset, seed: int) -> list[Any]:
    """The rows of each client: by the natural key where there is one."""
    plan = Natural() if data.natural_key is not None else Dirichlet(alpha=0.5)
    return list(partition(data.train, plan, CLIENTS, seed, source=data.source))


def measured(folder: Path | None, settings: Settings, seeds: Sequence[int], scored_on: ScoredOn) -> dict[str, Any]:
    """All figures."""
    task = task_named("icu-death")
    data = task.load(folder, seed=seeds[0])
    with Converter() as converter, tempfile.TemporaryDirectory(prefix="edgebench-quality-") as directory:
        found = [
            outcome(task, data, settings, seed, scored_on, converter, Path(directory) / str(seed)) for seed in seeds
        ]
    federated = _spread([each.rounds[-1] for each in found])
    central = _spread([each.central for each in found])
    local = _spread([_means(each.local)[-1] for each in found])
    parts = describe(data.train, parts_of(data, seeds[-1]))
    return {
        "start_auroc": _spread([each.start for each in found]),
        "federated_auroc": federated,
        "central_auroc": central,
        "local_auroc": local,
        "federated_below_central": round(central["mean"] - federated["mean"], 4),
        "federated_above_local": round(federated["mean"] - local["mean"], 4),
        "rounds_auroc": [round(each, 4) for each in _means([each.rounds for each in found])],
        "local_rounds_auroc": [round(each, 4) for each in _means([_means(each.local) for each in found])],
        "clients": [
            {"rows": part.rows, "positive": round(part.label_shares[1], 4), "local_auroc": round(aurocs[-1], 4)}
            for part, aurocs in zip(parts, found[-1].local, strict=True)
        ],
        "refused": sum(each.refused for each in found),
        "settings": asdict(settings),
        "data": {
            "source": data.source,
            "real": data.real,
            "train": len(data.train),
            "scored_on": scored_on,
            "scored": len(getattr(data, scored_on)),
            "partition": data.natural_key or "dirichlet",
            "seeds": list(seeds),
        },
    }


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    """The mean of each column."""
    return [statistics.mean(column) for column in zip(*rows, strict=True)]


def _spread(values: list[float]) -> dict[str, Any]:
    return {
        "mean": round(statistics.mean(values), 4),
        "std": round(statistics.stdev(values), 4) if len(values) > 1 else 0.0,
        "values": [round(value, 4) for value in values],
    }


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description="Federated, central and local-only training; see the top of this file."
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="a folder with PhysioNet 2012")
    parser.add_argument("--split", choices=["valid", "test"], default="test", help="what is scored (default: test)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="how many (default: 3)")
    for name, default in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, metavar="N")
    parser.add_argument("--quick", action="store_true", help="next to nothing, to see that it runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    if args.data is None and not args.quick:
        parser.error("name a folder with PhysioNet 2012 by --data, or take --quick")
    settings, seeds = Settings(**{name: getattr(args, name) for name in asdict(Settings())}), args.seeds
    if args.quick:
        settings, seeds = Settings(rounds=2, local_epochs=1), 1
    os.environ.update(QUIET)
    figures = measured(args.data, settings, range(1, seeds + 1), args.split)
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for key, value in figures.items():
        print(f"{key:26} {json.dumps(value)}")


if __name__ == "__main__":
    main()
