"""What is promised of a run's samples, and whether anything in it could keep, or would read, that."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.topology.model import Store, Topology, Workload
from edgebench.topology.placing import wheres

Problem = tuple[str, str]


def check_durability(topology: Topology) -> Iterator[Problem]:
    """A level wants samples that travel, all at QoS 1; a store wants somebody who keeps something in it."""
    keeps = topology.durability != "none"
    travelling = {name: each for name, each in topology.workloads.items() if wheres(each) != ("device",)}
    if keeps and not travelling:
        yield "$.durability", f"'{topology.durability}' has no effect: no sample travels (remove it)"
    for name, workload in travelling.items():
        if keeps and workload.qos == 0:
            promise = f"keeps nothing, and durability '{topology.durability}' is promised"
            yield f"$.workloads.{name}.qos", f"0 {promise} (write 1, or durability: none)"
    for name, workload in topology.workloads.items():
        if workload.store != Store() and (why := _unused(workload, keeps=keeps)):
            yield f"$.workloads.{name}.store", f"has no effect {why} (remove one of the two)"


def _unused(workload: Workload, *, keeps: bool) -> str:
    where = wheres(workload)
    if where == ("device",):
        return "with place.infer 'device': no sample travels"
    if workload.qos == 0:
        return "with qos 0, at which nothing is kept"
    tiers = workload.place.infer if isinstance(workload.place.infer, tuple) else where
    if not keeps and not {"cloud", "cascade"} & {*tiers}:
        return "with durability 'none' and nothing placed in the cloud: nobody keeps anything there"
    return ""
