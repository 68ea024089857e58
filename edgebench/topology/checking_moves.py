"""The moves of a topology: who moves, where to, and whether that can be."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.topology.expand import names_of, parent_of
from edgebench.topology.model import Topology
from edgebench.topology.wording import did_you_mean, not_within

Problem = tuple[str, str]


def check_moves(topology: Topology) -> Iterator[Problem]:
    """All moves; the nodes have to be sound."""
    tier_of = {name: plan.tier for group, plan in topology.nodes.items() for name in names_of(topology, group)}
    devices = [name for name, tier in tier_of.items() if tier == "device"]
    edges = [name for name, tier in tier_of.items() if tier == "edge"]
    learning = _learning(topology)
    site = {
        name: parent_of(topology, group, index)
        for group in topology.nodes
        for index, name in enumerate(names_of(topology, group))
    }
    if topology.moves and topology.broker.url is not None:
        yield "$.moves", "a site is where a broker is, and broker.url is the same for all (remove one of the two)"
    for index, move in sorted(enumerate(topology.moves), key=lambda entry: entry[1].at_s):
        path = f"$.moves[{index}]"
        if move.at_s >= topology.duration_s:
            yield f"{path}.at_s", not_within(move.at_s, topology.duration_s)
        for field, name, known in (("node", move.node, devices), ("to", move.to, edges)):
            if name not in tier_of:
                yield f"{path}.{field}", f"no node '{name}'{did_you_mean(name, known)}"
            elif name not in known:
                wanted = "device" if field == "node" else "edge"
                yield f"{path}.{field}", f"'{name}' is of tier {tier_of[name]} (name one of tier {wanted})"
        if move.node not in devices or move.to not in edges:
            continue
        group = next(name for name in topology.nodes if move.node in names_of(topology, name))
        above = topology.nodes[group].parent
        if above is not None and move.to not in names_of(topology, above):
            mend = f"(name an edge of '{above}')"
            yield f"{path}.to", f"'{move.to}' is not of the group above '{group}', so no link to it is described {mend}"
        if site[move.node] == move.to:
            yield f"{path}.to", f"'{move.node}' is at '{move.to}' then already (name another edge, or remove it)"
        site[move.node] = move.to
        if move.node in learning:
            yield (
                f"{path}.node",
                f"'{move.node}' learns federatedly, and stays at its site (remove one of the two)",
            )


def _learning(topology: Topology) -> set[str]:
    sources = [
        source
        for federated in topology.federated
        if federated.workload in topology.workloads
        for source in topology.workloads[federated.workload].sources
    ]
    return {name for source in sources if source in topology.nodes for name in names_of(topology, source)}
