"""The federated entries of a topology: does each have what it needs, and is every field of it read?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgebench.topology.model import Federated, Learners, Strategy, Topology, Workload
from edgebench.topology.profiles import HOST
from edgebench.topology.settings import OURS, SettingError, flat
from edgebench.topology.wording import did_you_mean, not_within

Problem = tuple[str, str]

_OF_BUILT_IN = (
    *("rounds", "strategy", "mode", "buffer", "local_epochs", "batch_size", "partition", "fit", "fraction"),
    *("max_update_ratio", "rollout_every", "interval_s"),
)
"""What the built-in app reads; a Flower app of one's own decides all of it itself."""


def check_federated(topology: Topology) -> Iterator[Problem]:
    """All federated entries."""
    seen: set[str] = set()
    for index, federated in enumerate(topology.federated):
        path = f"$.federated[{index}]"
        yield from _check_entry(topology, path, federated)
        if federated.workload in seen:
            yield f"{path}.workload", f"'{federated.workload}' is federated twice (remove one)"
        seen.add(federated.workload)


def _check_entry(topology: Topology, path: str, federated: Federated) -> Iterator[Problem]:
    if federated.workload not in topology.workloads:
        mean = did_you_mean(federated.workload, topology.workloads)
        yield f"{path}.workload", f"no workload '{federated.workload}'{mean}"
    if federated.aggregate not in (("cloud",), ("edge", "cloud")):
        yield f"{path}.aggregate", f"[{', '.join(federated.aggregate)}] cannot be (write [cloud] or [edge, cloud])"
    if federated.at_s >= topology.duration_s:
        yield f"{path}.at_s", not_within(federated.at_s, topology.duration_s)
    for field, because in (*_unused(federated), *_unused_learners(federated)):
        yield f"{path}.{field}", f"has no effect {because} (remove one of the two)"
    if federated.learners.threads > 1 and (emulated := _emulated(topology, federated)):
        problem = f"{federated.learners.threads}: {emulated[0]} is emulated, and profiles have one thread (remove it)"
        yield f"{path}.learners.threads", problem
    yield from _check_app(topology, path, federated)
    for field, problem in _node_config(topology, federated):
        yield f"{path}.node_config{field}", problem
    if "edge" in federated.aggregate:
        if federated.app is not None:
            yield f"{path}.aggregate", "edges aggregate for the built-in app only (write [cloud], or remove app)"
        if federated.engine != "mqtt":
            yield f"{path}.aggregate", f"the engine {federated.engine} knows no edges (write [cloud], or engine: mqtt)"
    if federated.mode == "buffered" and federated.strategy != Strategy():
        yield f"{path}.strategy", "mode 'buffered' has its own way to aggregate (remove one of the two)"


def _check_app(topology: Topology, path: str, federated: Federated) -> Iterator[Problem]:
    """What the built-in app wants of the workload, or a Flower app of its folder."""
    if federated.app is not None:
        if not (Path(federated.app) / "pyproject.toml").is_file():
            yield f"{path}.app", f"no Flower app: {federated.app} has no pyproject.toml (name the folder of one)"
        return
    if federated.rounds is None:
        yield path, "field 'rounds' is missing (give it, or the app that knows it)"
    workload = topology.workloads.get(federated.workload)
    if workload is None:
        return
    if workload.model.source != "train":
        yield (
            f"$.workloads.{federated.workload}.model.source",
            f"'{workload.model.source}' cannot learn on: a federated model is trained here first (set it to train)",
        )
    elif workload.model.runtime == "fake":
        yield f"$.workloads.{federated.workload}.model.runtime", "a model of runtime 'fake' learns nothing (use litert)"


def _node_config(topology: Topology, federated: Federated) -> Iterator[Problem]:
    """What clients cannot have, by `.field`; a table is that of a group or a device."""
    workload = topology.workloads.get(federated.workload)
    names = [] if workload is None else list(_learners(topology, workload))
    for name, value in federated.node_config.items():
        if isinstance(value, dict) and name not in names:
            unknown = f"no source group or device of the workload has that name{did_you_mean(name, names)}"
            yield f".{name}", f"{unknown}; a setting of all is written by its dotted key ({_dotted(name, value)}: …)"
            continue
        try:
            settings = flat(value) if isinstance(value, dict) else flat({name: value})
        except SettingError as error:
            yield f".{name}", f"setting {error}"
            continue
        for key in [key for key in OURS if key in settings]:
            yield f".{name}", f"'{key}' is given by the number of the client (remove it)"


def _dotted(name: str, value: object) -> str:
    """The key of the first setting in a table of this name."""
    while isinstance(value, dict) and value:
        inner, value = next(iter(value.items()))
        name = f"{name}.{inner}"
    return name


def _emulated(topology: Topology, federated: Federated) -> list[str]:
    """The groups of learning devices that are emulated."""
    workload = topology.workloads.get(federated.workload)
    sources = () if workload is None else workload.sources
    return [group for group in sources if group in topology.nodes and topology.nodes[group].profile != HOST]


def _learners(topology: Topology, workload: Workload) -> Iterator[str]:
    for group in workload.sources:
        yield group
        nodes = topology.nodes.get(group)
        if nodes is not None and nodes.count is not None:
            yield from (f"{group}-{number}" for number in range(nodes.count))


def _unused(federated: Federated) -> Iterator[tuple[str, str]]:
    plain = Federated(workload=federated.workload)

    def is_set(field: str) -> bool:
        return getattr(federated, field) != getattr(plain, field)

    if federated.app is not None:
        for field in _OF_BUILT_IN:
            if is_set(field):
                yield field, "with an app, which decides it"
    else:
        for field in ("config", "node_config"):
            if is_set(field):
                yield field, "without an app"
    if federated.mode != "buffered" and is_set("buffer"):
        yield "buffer", "without mode: buffered"
    if federated.mode == "buffered":
        for field in ("fraction", "min_replies"):
            if is_set(field):
                yield field, "with mode: buffered"
    if "edge" not in federated.aggregate and is_set("edge_rounds"):
        yield "edge_rounds", "without aggregate: [edge, cloud]"


def _unused_learners(federated: Federated) -> Iterator[tuple[str, str]]:
    learners = federated.learners
    if federated.engine != "mqtt" and learners != Learners():
        yield "learners", f"with engine: {federated.engine}, which starts clients in its own way"
    elif federated.app is None and federated.fit.runtime == "litert":
        for field in ("threads", "gpu"):
            if getattr(learners, field) != getattr(Learners(), field):
                yield f"learners.{field}", "with fit: {runtime: litert}, one thread of a core"
