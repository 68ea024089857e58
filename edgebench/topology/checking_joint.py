"""Frames that several workloads decide, and decisions that are made of several: does each part have what it needs?"""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.topology.model import Fixed, Poisson, Server, Topology, Trace, Workload
from edgebench.topology.pacing import asked_first, goes_in_a_circle, pace_setter
from edgebench.topology.wording import did_you_mean

Problem = tuple[str, str]

_OPEN_LOOP = (Fixed, Poisson, Trace, Server)


def check_joint(topology: Topology) -> Iterator[Problem]:
    """All loads that follow other workloads, and all joint decisions."""
    for name, workload in topology.workloads.items():
        yield from _check_load(topology, name, workload)
    if any(goes_in_a_circle(topology.workloads, name) for name in topology.workloads):
        return
    for name, joint in topology.joint.items():
        path = f"$.joint.{name}"
        if len(joint.of) < 2:
            yield f"{path}.of", "is made of fewer than two workloads (name at least two)"
        for index, part in enumerate(joint.of):
            if part not in topology.workloads:
                yield f"{path}.of[{index}]", f"no workload '{part}'{did_you_mean(part, topology.workloads)}"
            elif part in joint.of[:index]:
                yield f"{path}.of[{index}]", f"'{part}' stands here twice (remove one)"
        paces = {pace_setter(topology.workloads, part) for part in joint.of if part in topology.workloads}
        if len(paces) > 1 and None not in paces:
            one, other, *_ = sorted(str(pace) for pace in paces)
            mend = f"(give one a load {{kind: with, workload: {one}}})"
            yield f"{path}.of", f"follows both '{one}' and '{other}', whose samples are not of the same frames {mend}"


def _check_load(topology: Topology, name: str, workload: Workload) -> Iterator[Problem]:
    path = f"$.workloads.{name}.load"
    for before in asked_first(workload.load):
        if before not in topology.workloads:
            yield path, f"no workload '{before}'{did_you_mean(before, topology.workloads)}"
        elif set(topology.workloads[before].sources) != set(workload.sources):
            yield path, f"'{before}' has other devices as its source (frames are of one device: name the same)"
    if not asked_first(workload.load):
        return
    if len(set(asked_first(workload.load))) < len(asked_first(workload.load)):
        yield path, "names a workload twice (remove one)"
    if goes_in_a_circle(topology.workloads, name):
        yield path, "waits for itself in the end (give one of the workloads a load of its own)"
        return
    pace = pace_setter(topology.workloads, name)
    if pace is not None and not isinstance(topology.workloads[pace].load, _OPEN_LOOP):
        kind = topology.workloads[pace].load.__struct_config__.tag
        mend = "(use fixed, poisson, trace or server)"
        yield path, f"follows '{pace}', whose load '{kind}' has no times to follow {mend}"
    paces = {pace_setter(topology.workloads, before) for before in asked_first(workload.load)}
    if len(paces) > 1 and None not in paces:
        yield path, "waits for workloads whose samples are not of the same frames (give one a load of kind 'with')"
