"""Which of Flower's own apps run here, unmodified: all that lie in a checkout of its repository, one after another.

    python benchmarks/flower_apps.py CHECKOUT [NAME ...] [--out DIR] [--rounds 2] [--patience-s 600] [--again] [--json]

Each app of `examples/`, `framework/e2e/`, `e2e/` and `baselines/` is run by `edgebench run`, as it lies there, on
devices of this machine. Its settings are its own, but for fewer rounds, one local epoch, and what `OWN` below says of
some.

What an app takes from the Hugging Face hub is looked for in a cache that this program fills with small made-up sets of
the same columns (`DATA`); nothing is fetched. So what an app learns here says nothing of how well it learns. Sets and
models that are not among these are a reason why an app does not run, as is a package that is not installed: the table
has the line that installs it. Give this program the Python in which they are, with flwr-datasets for the made-up sets.

What was found of an app is kept in DIR (default: flower-apps) and not tried again, unless `--again` is given; the whole
table is printed each time, as Markdown, or as JSON. Opacus installs a package `benchmarks` of its own: beside it, say
`PYTHONPATH=.` in front.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.patience import ended_behind, waited_for
from edgebench.errors import EdgebenchError
from edgebench.federated.flower.apps import FlowerApp, load_app
from edgebench.seeds import rng_for
from edgebench.topology.strict_yaml import dump

FOLDERS = ("examples", "framework/e2e", "e2e", "baselines")
WORKLOAD = "stream"
_NO_APP = "no app"
_RESULTS = "*/result.json"


class Own(msgspec.Struct, frozen=True):
    """How an app is asked to run. clients: how many. config: settings of its own, instead of its defaults. parts: where
    it looks in `context.node_config` for its share of one of `DATA` on disk. folder: a setting that takes a folder, and
    what fills that folder."""

    clients: int = 2
    config: dict[str, Any] = {}
    parts: tuple[str, str] | None = None
    folder: tuple[str, Callable[[Path], None]] | None = None


def _fill_with_processes(folder: Path) -> None:
    """What the processes of a machine use, by what befalls it: a table of TON_IoT's columns."""
    kinds = ("ddos", "dos", "injection", "normal", "password", "scanning")
    names = ("MINFLT", "MAJFLT", "VSTEXT", "VSIZE", "RSIZE", "VGROW", "RGROW", "MEM")
    rng = rng_for(0, "flower apps", "processes")
    centres = rng.normal(0, 2, (len(kinds), len(names)))
    with (folder / "dataset.csv").open("w", encoding="utf-8") as file:
        print("PID", *names, "CMD", "label", "type", sep=",", file=file)
        for n in range(_ROWS["train"]):
            kind = n % len(kinds)
            values = rng.normal(centres[kind], 1).round(4)
            print(n, *values, "sh", int(kinds[kind] != "normal"), kinds[kind], sep=",", file=file)


OWN = {
    "embedded-devices": Own(parts=("dataset-path", "zalando-datasets/fashion_mnist")),
    "supernode-authentication": Own(parts=("dataset-path", "uoft-cs/cifar10")),
    "fl-dp-sa": Own(clients=4, config={"num-shares": 3, "reconstruction-threshold": 2}),
    "flower-secure-aggregation": Own(clients=5),
    "vertical-fl": Own(clients=3),
    "fedprox": Own(clients=10, config={"algorithm.min-available-clients": 10, "algorithm.num-clients": 10}),
    "fedrep": Own(clients=5),
    "floco": Own(clients=5),
    "fedbn": Own(clients=5),
    "statavg": Own(clients=5, folder=("path_to_dataset", _fill_with_processes)),
}
"""By the name of the app's folder; for all others two clients and its defaults."""

NOT_TRIED = {
    "federated-analytics": "needs a PostgreSQL server",
    "fedrag": "needs a language model and text corpora from the internet",
    "flowertune-llm": "needs a GPU, and a language model from the internet",
    "flowertune-llm-code": "needs a GPU, and a language model from the internet",
    "flowertune-llm-finance": "needs a GPU, and a language model from the internet",
    "flowertune-llm-general-nlp": "needs a GPU, and a language model from the internet",
    "flowertune-llm-medical": "needs a GPU, and a language model from the internet",
    "quickstart-lerobot": "needs a package from GitHub, a data set and a model from the internet",
    "whisper-federated-finetuning": "needs a model and a data set of speech from the internet",
}

_DOWNLOADS = (
    *("urlopen error", "ConnectionError", "OfflineModeIsEnabled", "offline mode", "Max retries", "LocalEntryNotFound"),
    *("Cannot find the requested files", "Name or service not known", "URLError", "Couldn't find", "couldn't connect"),
    *("HTTPError", "HTTP Error", "URL fetch failure", "Network is unreachable", "name resolution", "getaddrinfo"),
)
"""What is said where something was to be fetched."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an app. replies: good ones of those that were asked for. seconds: from the first round to the last.
    asks: which Flower it asks for."""

    app: str
    asks: str
    outcome: str
    clients: int | None = None
    rounds: int | None = None
    replies: tuple[int, int] | None = None
    seconds: float | None = None
    metrics: dict[str, float] = {}


# Made-up data.

Columns = dict[str, Any]
Splits = dict[str, Columns]
_ROWS = {"train": 4_000, "test": 400}


def _pictures(column: str, shape: tuple[int, ...]) -> Callable[[], Splits]:
    """Ten classes, each a pattern under noise."""

    def made() -> Splits:
        rng = rng_for(0, "flower apps", column, *map(str, shape))
        patterns = rng.integers(0, 256, (10, *shape))

        def split(rows: int) -> Columns:
            labels = rng.permutation(np.arange(rows) % 10)
            noisy = 0.7 * patterns[labels] + 0.3 * rng.integers(0, 256, (rows, *shape))
            return {column: list(noisy.astype(np.uint8)), "label": labels.tolist()}

        return {name: split(rows) for name, rows in _ROWS.items()}

    return made


def _table(columns: Callable[[np.random.Generator, int], Columns], *splits: str) -> Callable[[], Splits]:
    return lambda: {name: columns(rng_for(0, "flower apps", name), _ROWS[name]) for name in splits}


def _census(rng: np.random.Generator, rows: int) -> Columns:
    def one_of(*values: str) -> list[str]:
        return [values[n] for n in rng.integers(0, len(values), rows)]

    years = rng.integers(1, 17, rows)
    return {
        "age": rng.integers(17, 90, rows).tolist(),
        "workclass": one_of("Private", "State-gov", "?"),
        "fnlwgt": rng.integers(10_000, 500_000, rows).tolist(),
        "education": one_of("HS-grad", "Bachelors", "Masters"),
        "education.num": years.tolist(),
        "marital.status": one_of("Never-married", "Divorced", "Widowed"),
        "occupation": one_of("Sales", "Tech-support", "?"),
        "relationship": one_of("Husband", "Wife", "Unmarried"),
        "race": one_of("A", "B"),
        "sex": one_of("Female", "Male"),
        "capital.gain": rng.integers(0, 5_000, rows).tolist(),
        "capital.loss": rng.integers(0, 2_000, rows).tolist(),
        "hours.per.week": rng.integers(1, 99, rows).tolist(),
        "native.country": one_of("United-States", "Mexico", "?"),
        "income": np.where(years + rng.normal(0, 3, rows) > 9, ">50K", "<=50K").tolist(),
    }


def _iris(rng: np.random.Generator, _rows: int) -> Columns:
    """The real ones, which scikit-learn brings."""
    from sklearn.datasets import load_iris

    sizes, species = load_iris(return_X_y=True)
    order = rng.permutation(len(species))
    names = ("SepalLengthCm", "SepalWidthCm", "PetalLengthCm", "PetalWidthCm")
    kinds = ("Iris-setosa", "Iris-versicolor", "Iris-virginica")
    return {
        "Id": (order + 1).tolist(),
        **{name: sizes[order, n].tolist() for n, name in enumerate(names)},
        "Species": [kinds[n] for n in species[order]],
    }


def _iris_by_number(rng: np.random.Generator, rows: int) -> Columns:
    _, lengths, widths, petal_lengths, petal_widths, species = _iris(rng, rows).values()
    return {
        "petal_length": petal_lengths,
        "petal_width": petal_widths,
        "sepal_length": lengths,
        "sepal_width": widths,
        "species": [sorted(set(species)).index(each) for each in species],
    }


def _higgs(rng: np.random.Generator, rows: int) -> Columns:
    inputs = rng.normal(0, 1, (rows, 28))
    return {"inputs": inputs.tolist(), "label": (inputs[:, :4].sum(1) > 0).astype(float).tolist()}


def _titanic(rng: np.random.Generator, rows: int) -> Columns:
    woman = rng.integers(0, 2, rows)
    return {
        "Survived": (woman + rng.normal(0, 0.5, rows) > 0.5).astype(int).tolist(),
        "Pclass": rng.integers(1, 4, rows).tolist(),
        "Name": [("Mrs. Ann No" if each else "Mr. Bob No") + str(n) for n, each in enumerate(woman)],
        "Sex": ["female" if each else "male" for each in woman],
        "Age": rng.integers(1, 80, rows).astype(float).tolist(),
        "Siblings/Spouses Aboard": rng.integers(0, 4, rows).tolist(),
        "Parents/Children Aboard": rng.integers(0, 3, rows).tolist(),
        "Fare": rng.gamma(2, 15, rows).tolist(),
    }


_CIFAR, _DIGITS = _pictures("img", (32, 32, 3)), _pictures("image", (28, 28))
DATA: dict[str, tuple[str, Callable[[], Splits]]] = {
    "uoft-cs/cifar10": ("plain_text", _CIFAR),
    "cifar10": ("plain_text", _CIFAR),
    "ylecun/mnist": ("mnist", _DIGITS),
    "mnist": ("mnist", _DIGITS),
    "zalando-datasets/fashion_mnist": ("fashion_mnist", _DIGITS),
    "scikit-learn/adult-census-income": ("default", _table(_census, "train")),
    "scikit-learn/iris": ("default", _table(_iris, "train")),
    "hitorilabs/iris": ("default", _table(_iris_by_number, "train")),
    "jxie/higgs": ("default", _table(_higgs, "train", "test")),
    "julien-c/titanic-survival": ("default", _table(_titanic, "train")),
}
"""By name on the hub: the name of its one configuration, and what makes it up."""


def _as_dataset(columns: Columns) -> Any:
    import datasets

    pictures = [name for name in ("img", "image") if name in columns]
    if not pictures:
        return datasets.Dataset.from_dict(columns)
    kinds = {**dict.fromkeys(pictures, datasets.Image()), "label": datasets.ClassLabel(num_classes=10)}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


def _fill_cache(home: Path) -> None:
    """As the datasets library leaves it behind where it has fetched these sets."""
    import datasets
    from datasets.arrow_writer import ArrowWriter
    from datasets.splits import SplitDict

    for name, (config, make) in DATA.items():
        folder = home / "datasets" / name.replace("/", "___") / config / "0.0.0" / ("0" * 40)
        if folder.exists():
            continue
        part = folder.with_name("part")
        part.mkdir(parents=True, exist_ok=True)
        short = name.rpartition("/")[2]
        splits = SplitDict(dataset_name=short)
        made = {split: _as_dataset(columns) for split, columns in make().items()}
        for split, rows in made.items():
            with ArrowWriter(features=rows.features, path=str(part / f"{short}-{split}.arrow")) as writer:
                writer.write_table(rows.data.table.combine_chunks())
                count, size_bytes = writer.finalize()
            splits.add(datasets.SplitInfo(split, size_bytes, count, dataset_name=short))
        datasets.DatasetInfo(
            features=next(iter(made.values())).features,
            builder_name="parquet",
            dataset_name=short,
            config_name=config,
            version="0.0.0",
            splits=splits,
        ).write_to_directory(str(part))
        part.rename(folder)


def _write_parts(folder: Path, name: str, clients: int) -> list[Path]:
    """A made-up set on disk, a part a client."""
    import datasets

    rows = _as_dataset(DATA[name][1]()["train"])
    parts = []
    for client in range(clients):
        place = folder / f"{name.replace('/', '-')}-{client}"
        if not place.exists():
            split = rows.shard(clients, client).train_test_split(test_size=0.2, seed=42)
            datasets.DatasetDict(split).save_to_disk(str(place))
        parts.append(place)
    return parts


# The apps.


def projects(checkout: Path, names: Sequence[str]) -> Iterator[Path]:
    """The folders that have a Python project, with the names that are asked for, or all."""
    for folder in FOLDERS:
        for file in sorted((checkout / folder).rglob("pyproject.toml")):
            if file.parent != checkout / folder and (not names or file.parent.name in names):
                yield file.parent


def _settings(app: FlowerApp, own: Own, rounds: int) -> dict[str, Any]:
    """Fewer rounds and epochs, where an app has a setting for them."""
    found: dict[str, Any] = {}
    for key, value in app.run_config.items():
        name = key.rpartition(".")[2].replace("_", "-")
        if name in ("num-server-rounds", "num-rounds"):
            found[key] = min(int(value), rounds)
        elif name in ("local-epochs", "num-local-epochs", "max-epochs"):
            found[key] = 1
    return {**found, **own.config}


def prepare(app: FlowerApp, out: Path, place: Path, rounds: int, patience_s: float) -> Path:
    """A topology in place that runs an app, with the data that it needs."""
    own = _own(app)
    config = _settings(app, own, rounds)
    if own.folder is not None:
        key, fill = own.folder
        made = place / "made-up"
        made.mkdir(exist_ok=True)
        fill(made)
        config[key] = str(made)
    federated: dict[str, Any] = {
        "workload": WORKLOAD,
        "app": app.folder,
        "config": config,
        "deadline_s": patience_s / 2,
    }
    if own.parts is not None:
        key, data = own.parts
        parts = _write_parts(out / "parts", data, own.clients)
        federated["node_config"] = {f"device-{n}": {key: str(part)} for n, part in enumerate(parts)}
    file = place / "topology.yaml"
    file.write_text(_topology(own.clients, federated), "utf-8")
    return file


def _own(app: FlowerApp) -> Own:
    return OWN.get(Path(app.folder).name, Own())


def _topology(clients: int, federated: Mapping[str, Any]) -> str:
    return dump(
        {
            "schema": 1,
            "name": "app",
            "duration_s": 5,
            "nodes": {
                "cloud": {"tier": "cloud"},
                "edge": {"tier": "edge", "parent": "cloud"},
                "device": {"tier": "device", "count": clients, "parent": "edge"},
            },
            "workloads": {
                WORKLOAD: {
                    "task": "occupancy",
                    "source": "device",
                    "load": {"kind": "fixed", "rate_hz": 1},
                    "model": {"runtime": "fake"},
                }
            },
            "federated": [dict(federated)],
        }
    )


def try_app(folder: Path, name: str, out: Path, rounds: int, patience_s: float) -> Found:
    """Run an app, if it is one."""
    asks = _asked_flower(folder)
    try:
        app = load_app(folder)
    except EdgebenchError:
        return Found(app=name, asks=asks, outcome=_NO_APP)
    if folder.name in NOT_TRIED:
        return Found(app=name, asks=asks, outcome=f"not tried: {NOT_TRIED[folder.name]}")
    place = out / name
    place.mkdir(parents=True, exist_ok=True)
    file = prepare(app, out, place, rounds, patience_s)
    earlier = set(place.glob(_RESULTS))
    status, said = _run(file, place, out / "hub", patience_s)
    result = next((each for each in place.glob(_RESULTS) if each not in earlier), None)
    base = Found(app=name, asks=asks, outcome=_short(said, folder), clients=_own(app).clients)
    found = base if status == 2 or result is None else _read(base, result.parent, folder)
    if status is None:
        return msgspec.structs.replace(found, outcome=f"takes more than {patience_s:.0f} s")
    return found


def _asked_flower(folder: Path) -> str:
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    stated = project.get("project", {}).get("dependencies", [])
    of_poetry = project.get("tool", {}).get("poetry", {}).get("dependencies", {}).get("flwr", "")
    version = of_poetry.get("version", "") if isinstance(of_poetry, dict) else of_poetry
    lines = [each for each in stated if each.startswith("flwr") and not each.startswith("flwr-")]
    found = lines[0].partition("]")[2] or lines[0].removeprefix("flwr") if lines else version
    return "that of the repository" if "@" in found else found.strip()


def _run(file: Path, place: Path, hub: Path, patience_s: float) -> tuple[int | None, str]:
    """`edgebench run`: its exit status (None: it took too long), and what it said on stderr."""
    environment = {
        **os.environ,
        "HF_HOME": str(hub),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "WANDB_MODE": "offline",
        "MPLBACKEND": "Agg",
    }
    command = [sys.executable, "-m", "edgebench.cli", "run", str(file), "--out", str(place)]
    with (place / "said.txt").open("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            command, env=environment, cwd=place, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
        )
        with ended_behind(process):
            status = waited_for(process, patience_s)
        said.seek(0)
        return status, said.read()


def _short(said: str, folder: Path) -> str:
    """The last thing that was said, in a cell of a table."""
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "nothing was said")
    _, _, problem = last.rpartition(f"{folder.resolve()}: ")
    return problem.replace("|", "/")


def _read(base: Found, run_dir: Path, folder: Path) -> Found:
    result = msgspec.json.decode((run_dir / "result.json").read_bytes())
    found = result["federated"].get(WORKLOAD)
    reasons = result["verdict"]["reasons"]
    kinds = {} if found is None else found["kinds"]
    good, asked = (sum(kind[what] for kind in kinds.values()) for what in ("good", "messages"))
    held = [] if found is None else [*found["rounds"], *found["other_rounds"]]
    times = [(each["started_s"], each["duration_s"]) for each in held if each["duration_s"] is not None]
    seconds = max(start + took for start, took in times) - min(start for start, _ in times) if times else None
    about = [reason for reason in reasons if "federat" in reason] if held else reasons
    return msgspec.structs.replace(
        base,
        outcome=why(about[0], folder) if about else "runs",
        rounds=len(held),
        replies=(good, asked),
        seconds=None if seconds is None else round(seconds, 1),
        metrics={} if found is None else _metrics(found, held),
    )


def why(reason: str, folder: Path) -> str:
    """Why an app in a folder does not run, in a cell of a table, with no path of this machine."""
    here = str(folder.resolve())
    said = reason.replace(f"{here}/", "").replace(here, folder.name).replace("|", "/")
    said = re.sub(r"[^\s(]*/site-packages/", "", said)
    return f"needs a download: {said}" if any(each in said for each in _DOWNLOADS) else f"fails: {said}"


def _metrics(found: Mapping[str, Any], held: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The last of what the server measured, else of what its clients did."""
    of_server = list(found["server_metrics"].values())
    of_rounds = [each["metrics"] for each in held if each["metrics"]]
    last: dict[str, float | None] = next((each for each in (*reversed(of_server), *reversed(of_rounds)) if each), {})
    return {name: value for name, value in last.items() if value is not None}


# The table.

_HEAD = ("app", "asks for flwr", "clients", "outcome", "rounds", "good replies", "s", "last metrics")


def table(rows: Sequence[Found]) -> str:
    """In Markdown."""
    lines = [_HEAD, tuple("---" for _ in _HEAD), *(_cells(row) for row in rows if row.outcome != _NO_APP)]
    none = [f"{row.app} ({row.asks or 'of any version'})" for row in rows if row.outcome == _NO_APP]
    no_apps = f"\n\nNo apps, but programs for Flower before it had these: {', '.join(none)}." if none else ""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + no_apps


def _cells(row: Found) -> tuple[str, ...]:
    return (
        row.app,
        row.asks,
        "" if row.clients is None else str(row.clients),
        row.outcome,
        "" if row.rounds is None else str(row.rounds),
        "" if row.replies is None else f"{row.replies[0]} of {row.replies[1]}",
        "" if row.seconds is None else f"{row.seconds:g}",
        ", ".join(f"{name} {value:.3g}" for name, value in list(row.metrics.items())[:3]),
    )


def _heading(checkout: Path) -> str:
    version = "?"
    with contextlib.suppress(OSError, KeyError):
        version = tomllib.loads((checkout / "framework" / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    commit = subprocess.run(
        ["git", "-C", str(checkout), "log", "-1", "--format=%h of %cs"], capture_output=True, text=True, check=False
    ).stdout.strip()
    there = f"Flower's repository at {commit or 'an unknown commit'} (flwr {version})"
    return f"{there}, flwr {metadata.version('flwr')} here."


def main(argv: Sequence[str] | None = None) -> int:
    """Try what has not been tried, and print all that is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="of Flower's repository")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of an app's folder (none: all)")
    parser.add_argument("--out", type=Path, default=Path("flower-apps"), metavar="DIR")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="at most, where an app lets itself be told")
    parser.add_argument("--patience-s", type=float, default=600.0, metavar="S", help="for an app")
    parser.add_argument("--again", action="store_true", help="try what has been tried already")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    checkout, out = args.checkout.resolve(), args.out.resolve()
    kept = out / "found"
    kept.mkdir(parents=True, exist_ok=True)
    _fill_cache(out / "hub")
    rows = []
    for folder in projects(checkout, args.names):
        name = str(folder.relative_to(checkout))
        file = kept / f"{name.replace('/', '+')}.json"
        if args.again or not file.exists():
            print(name, file=sys.stderr, flush=True)
            found = try_app(folder, name, out, args.rounds, args.patience_s)
            file.write_bytes(msgspec.json.encode(found))
        rows.append(msgspec.json.decode(file.read_bytes(), type=Found))
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(rows)).decode())
    else:
        print(f"{_heading(checkout)}\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
