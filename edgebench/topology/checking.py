"""What the fields of a topology say of each other: one function a part of the file, each yields (path, problem)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import msgspec

from edgebench.errors import TopologyError
from edgebench.topology.checking_chains import check_chains
from edgebench.topology.checking_durability import check_durability
from edgebench.topology.checking_faults import check_faults
from edgebench.topology.checking_federated import check_federated
from edgebench.topology.checking_jobs import check_jobs, check_trace, task_problem
from edgebench.topology.checking_joint import check_joint
from edgebench.topology.checking_links import check_links
from edgebench.topology.checking_machines import check_machines
from edgebench.topology.checking_moves import check_moves
from edgebench.topology.checking_nodes import MAX_NODES, check_nodes
from edgebench.topology.checking_online import check_online
from edgebench.topology.expand import names_of
from edgebench.topology.loading import names_a_file, unseen_in
from edgebench.topology.model import Batch, Broker, Cascade, ModelChoice, Topology, Trace, Training, Workload
from edgebench.topology.placing import where_of, wheres
from edgebench.topology.trace import read_trace
from edgebench.topology.wording import choice_of, did_you_mean, listed, not_within, one_line

Problem = tuple[str, str]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SCHEMES = ("mqtt", "mqtts")
_ENDS_A_LOGIN = "/?#[]"
_FLOAT32_ONLY = ("keras", "onnx")
_RESERVED_WORKLOADS = ("models",)
"""Names that stand in the same place of an MQTT topic."""


def check(topology: Topology, file: str | Path, *, tasks: Collection[str], most_nodes: int = MAX_NODES) -> None:
    """Check everything that the shape of single fields does not show.

    file: what error messages call the topology. tasks: the names of the built-in tasks; a `module:attribute` is
    accepted as it stands. most_nodes: that there may be. Raises one TopologyError with all problems.
    """
    problems = list(check_nodes(topology, most_nodes))
    # Names of single nodes mean something only once the groups are sound.
    nodes_are_sound = not problems
    problems += check_links(topology)
    problems += _check_data(topology)
    problems += check_jobs(topology)
    for name, workload in topology.workloads.items():
        problems += _check_workload(topology, name, workload, tasks)
    problems += check_federated(topology)
    problems += check_joint(topology)
    problems += check_durability(topology)
    problems += check_online(topology)
    problems += check_chains(topology, tasks)
    if nodes_are_sound:
        problems += check_trace(topology, tasks) if topology.jobs else ()
        before = len(problems)
        # Each of them names all nodes there are, of which there may be many.
        problems += check_moves(topology) if topology.moves else ()
        problems += check_machines(topology) if topology.machines else ()
        # Moves to edges that there are not are told of; the links of the others cannot be named then.
        if (topology.faults or topology.chaos) and len(problems) == before:
            problems += check_faults(topology)
    problems += _check_broker(topology.broker)
    if problems:
        unseen, now = unseen_in(file), msgspec.to_builtins(topology)
        raise TopologyError(
            [one_line(f"{file}: {at}: {problem}{unseen.at(at, problem, now)}") for at, problem in problems]
        )


def _check_data(topology: Topology) -> Iterator[Problem]:
    if topology.data is not None and not Path(topology.data).is_dir():
        yield "$.data", f"no folder {topology.data}"


def _check_workload(topology: Topology, name: str, workload: Workload, tasks: Collection[str]) -> Iterator[Problem]:
    path = f"$.workloads.{name}"
    if name in _RESERVED_WORKLOADS:
        yield path, f"'{name}' is reserved (choose another name)"
    problem = task_problem(workload.task, tasks)
    if problem is not None:
        yield f"{path}.task", problem
    yield from _check_sources(topology, path, workload)
    yield from _check_place(topology, f"{path}.place.infer", workload)
    yield from _check_allowed(topology, f"{path}.place.infer", workload)
    if isinstance(workload.load, Trace):
        try:
            read_trace(workload.load.file)
        except TopologyError as error:
            yield f"{path}.load.file", str(error)
    yield from _check_model(f"{path}.model", workload.model)
    yield from _check_is_used(path, workload)
    yield from _check_cascade(topology, name, workload)
    for index, rollout in enumerate(workload.rollout):
        at = f"{path}.rollout[{index}]"
        if workload.model.source != "train":
            yield at, f"rolls a trained model out, but model.source is '{workload.model.source}' (set it to train)"
        elif workload.model.runtime == "fake":
            yield at, "rolls a trained model out, but a model of runtime 'fake' learns nothing (remove one of the two)"
        if rollout.at_s >= topology.duration_s:
            yield f"{at}.at_s", not_within(rollout.at_s, topology.duration_s)


def _check_cascade(topology: Topology, name: str, workload: Workload) -> Iterator[Problem]:
    path = f"$.workloads.{name}"
    if "cascade" not in wheres(workload):
        if workload.cascade is not None:
            yield f"{path}.cascade", "has no effect without place.infer 'cascade' (remove one of the two)"
        return
    at = f"{path}.place.infer"
    if len(wheres(workload)) > 1:
        two = "has a cascade beside other tiers, whose model could be either of its two"
        yield at, f"{two} (use cascade for all, or none)"
    calibrates = "a cascade is calibrated for two models that it trains"
    if workload.model.source != "train":
        yield at, f"{calibrates}, but model.source is '{workload.model.source}' (set it to train)"
    if "fake" in (workload.model.runtime, (workload.cascade or Cascade()).runtime):
        yield at, f"{calibrates}, and one of runtime 'fake' learns nothing (use litert, keras or onnx)"
    if workload.rollout:
        yield at, f"{calibrates}, and a roll-out would replace one of them (remove rollout)"
    if any(federated.workload == name and federated.app is None for federated in topology.federated):
        yield at, f"{calibrates}, and federated learning would replace one of them (use edge or cloud)"
    cascade = workload.cascade or Cascade()
    model = workload.model
    if (cascade.size, cascade.runtime, cascade.quantisation) == (model.size, model.runtime, model.quantisation):
        yield f"{path}.cascade", "asks the same model again that was unsure (give it another size or number format)"
    if cascade.runtime in _FLOAT32_ONLY and cascade.quantisation != "float32":
        quantised = f"the {cascade.runtime} runtime runs float32 only, not {cascade.quantisation} (or use litert)"
        yield f"{path}.cascade.quantisation", quantised


def _check_is_used(path: str, workload: Workload) -> Iterator[Problem]:
    """Fields that nothing would read, given what another field says."""
    model = workload.model
    plain = ModelChoice()
    other: list[str] = []
    because = ""
    if model.source != "train":
        other = [name for name in ("size", "runtime", "quantisation") if getattr(model, name) != getattr(plain, name)]
        because = f"model.source '{model.source}'"
    elif model.runtime == "fake":
        other = [name for name in ("size", "quantisation") if getattr(model, name) != getattr(plain, name)]
        because = "model.runtime 'fake'"
    unused = [f"model.{name}" for name in other]
    if because and workload.train != Training():
        unused.append("train")
    for field in unused:
        yield f"{path}.{field}", f"has no effect with {because} (remove one of the two)"
    if wheres(workload) == ("device",):
        if workload.batch != Batch():
            mend = "a device decides its samples one by one (remove one of the two)"
            yield f"{path}.batch", f"has no effect with place.infer 'device': {mend}"
        still = "has no effect with place.infer 'device': no sample travels (remove one of the two)"
        if workload.compress is not None:
            yield f"{path}.compress", still
        if workload.qos == 0:
            yield f"{path}.qos", still


def _check_sources(topology: Topology, path: str, workload: Workload) -> Iterator[Problem]:
    devices = [name for name, group in topology.nodes.items() if group.tier == "device"]
    listed = isinstance(workload.source, tuple)
    if not workload.sources:
        yield f"{path}.source", "is empty (name at least one group of devices)"
    for index, source in enumerate(workload.sources):
        at = f"{path}.source[{index}]" if listed else f"{path}.source"
        if source not in topology.nodes:
            yield at, f"no node '{source}'{did_you_mean(source, devices)}"
        elif source not in devices:
            yield at, f"'{source}' is of tier {topology.nodes[source].tier} (name a group of tier device)"
        if source in workload.sources[:index]:
            yield at, f"'{source}' stands here twice (remove one)"


def _check_place(topology: Topology, path: str, workload: Workload) -> Iterator[Problem]:
    """Whether a placement by group or device names sources only, and leaves none out."""
    infer = workload.place.infer
    if not isinstance(infer, dict):
        return
    devices = {group: names_of(topology, group) for group in workload.sources if group in topology.nodes}
    sources = [*devices, *(name for names in devices.values() for name in names if name not in devices)]
    others = {name for group in topology.nodes for name in (group, *names_of(topology, group))}
    for name in infer:
        if name in others and name not in sources:
            yield f"{path}.{name}", f"'{name}' is no source of this workload{choice_of(sources)}"
        elif name not in sources:
            yield f"{path}.{name}", f"no node '{name}'{did_you_mean(name, sources)}"
        elif name in devices and devices[name] != [name] and set(devices[name]) <= infer.keys():
            yield f"{path}.{name}", "has no effect, since each of its devices is named too (remove one of the two)"
    for group, names in devices.items():
        left_out = [name for name in names if where_of(workload, name, group) is None]
        if left_out:
            yield (
                path,
                f"does not say where {listed(left_out)} of '{group}' is decided (name each of them, or the group)",
            )


def _check_allowed(topology: Topology, path: str, workload: Workload) -> Iterator[Problem]:
    for where in wheres(workload):
        infer = workload.place.infer
        tiers = infer if isinstance(infer, tuple) else ("edge", "cloud") if where == "cascade" else (where,)
        if not set(tiers) <= set(topology.place.allow):
            yield path, f"'{where}' is not within place.allow: {listed(topology.place.allow)} (change one of them)"


def _check_model(path: str, model: ModelChoice) -> Iterator[Problem]:
    if model.runtime in _FLOAT32_ONLY and model.quantisation != "float32":
        float32 = f"the {model.runtime} runtime runs float32 only, not {model.quantisation} (or use litert)"
        yield f"{path}.quantisation", float32
    if model.source.startswith("sha256:"):
        if not _DIGEST.fullmatch(model.source):
            yield f"{path}.source", f"'{model.source[:80]}' is no digest (write sha256: and 64 digits of 0-9 a-f)"
    elif names_a_file(model) and not Path(model.source).is_file():
        yield f"{path}.source", f"no model file {model.source} (write train, a path, or sha256:<hex>)"


def _check_broker(broker: Broker) -> Iterator[Problem]:
    if broker.url is not None:
        problem = _problem_of_url(broker.url)
        if problem:
            yield "$.broker.url", f"{problem} (write mqtt://host[:port], or mqtts:// for TLS)"
        if broker.listen != Broker().listen:
            yield "$.broker.listen", "has no effect with broker.url (remove one of the two)"
        if broker.kind != Broker().kind:
            yield "$.broker.kind", "has no effect with broker.url (remove one of the two)"
    elif broker.listen != Broker().listen:
        mend = "(use 127.0.0.1, or give broker.url)"
        yield "$.broker.listen", f"'{broker.listen}' is not 127.0.0.1, and the embedded broker has no encryption {mend}"


def _problem_of_url(url: str) -> str | None:
    """What is wrong with a broker's URL, without repeating the password that may be in it."""
    scheme, _, rest = url.partition("://")
    login = rest.rpartition("@")[0]
    # Before it is taken apart: a character of the login may end it, and the rest would be taken for host and port.
    if scheme.lower() in _SCHEMES:
        if ":" in login:
            return "holds a password, and a run directory keeps the topology as it is: give the URL by --broker instead"
        raw = next((character for character in _ENDS_A_LOGIN if character in login), None)
        if raw is not None:
            return f"a '{raw}' in the user ends it there: write {quote(raw, safe='')} for it"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "the host or port cannot be read"
    if parts.scheme not in _SCHEMES:
        return "the scheme is neither mqtt nor mqtts"
    if not parts.hostname:
        return "no host"
    if port == 0:
        return "port 0"
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return "something follows the port"
    return None
