"""Decisions that are made of several: when the last part of a frame was there, and which way it took."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgebench.fabric.records import Observations
from edgebench.results import stats
from edgebench.results.figures import JointFigures, PathFigures
from edgebench.results.samples import ABSENT, Ints, Samples, decides_at_random, latency_of, ms
from edgebench.tasks import task_named
from edgebench.topology.deployment import Deployment, WorkloadPlan
from edgebench.topology.model import After, Joint


def joints_of(
    deployment: Deployment, observations: Observations, samples: Mapping[str, Samples]
) -> dict[str, JointFigures]:
    """The figures of every joint decision of a run."""
    return {name: _figures(joint, deployment, observations, samples) for name, joint in deployment.joint.items()}


def _figures(
    joint: Joint, deployment: Deployment, observations: Observations, samples: Mapping[str, Samples]
) -> JointFigures:
    paths = [path for part in joint.of for path in _paths(part, deployment.workloads)]
    involved = sorted({workload for path in paths for workload in path})
    frames = _Frames(deployment, {name: samples[name] for name in involved})
    due_ns = np.stack([frames.column(path[0], "scheduled_ns") for path in paths])
    # A part that waits was due when its frame was.
    due_ns = np.where(due_ns == ABSENT, np.iinfo(np.int64).max, due_ns).min(axis=0)
    arrived_ns = np.stack([frames.column(part, "arrived_ns") for part in joint.of])
    decided = (arrived_ns != ABSENT).all(axis=0)
    latency_ns = arrived_ns.max(axis=0)[decided] - due_ns[decided]
    ways = list(itertools.compress(_critical(joint, deployment.workloads, frames), decided))
    taken = Counter(ways)
    late = 0 if joint.deadline_ms is None else int((ms(latency_ns) > joint.deadline_ms).sum())
    tells = not any(decides_at_random(part, observations) for part in joint.of)
    right = _right(joint, deployment, samples, frames) if tells and decided.any() else None
    known = np.zeros(0) if right is None else right[decided & np.isfinite(right)]
    measured = involved if decided.any() else []
    work_ms = {name: stats.rounded(_work_ms(frames, name, decided)) for name in measured}
    return JointFigures(
        of=list(joint.of),
        frames=len(decided),
        decided=int(decided.sum()),
        late=late,
        deadline_ms=joint.deadline_ms,
        latency_ms=latency_of(latency_ns),
        work_ms=work_ms,
        parts_ms=stats.rounded(sum(work_ms.values())) if work_ms else None,
        paths=[
            PathFigures(
                path=list(path),
                critical=taken[path],
                mean_ms=_mean_ms(latency_ns, [taken_way == path for taken_way in ways]),
            )
            for path in dict.fromkeys(paths)
        ],
        judged=len(known),
        right=stats.rounded(known.mean()) if len(known) else None,
    )


def _paths(part: str, plans: Mapping[str, WorkloadPlan]) -> list[tuple[str, ...]]:
    """All ways from a workload that waits for none to this one."""
    load = plans[part].load
    if not isinstance(load, After):
        return [(part,)]
    return [(*path, part) for before in load.workloads for path in _paths(before, plans)]


class _Frames:
    """Columns of several workloads by frame: a device and a sequence number."""

    def __init__(self, deployment: Deployment, samples: Mapping[str, Samples]) -> None:
        place = {node: number for number, node in enumerate(deployment.nodes)}
        keys = {}
        for name, each in samples.items():
            device = np.array([place[node] for node in each.nodes], np.int64)
            keys[name] = (device[each.node] << 44) | each.seq if len(each) else np.zeros(0, np.int64)
        self._all = np.unique(np.concatenate(list(keys.values())))
        self._samples = samples
        self._rows = {name: np.searchsorted(self._all, each) for name, each in keys.items()}

    def __len__(self) -> int:
        return len(self._all)

    def column(self, workload: str, stamp: str) -> Ints:
        """A stamp of that workload by frame, `ABSENT` where it has no such sample."""
        found = np.full(len(self._all), ABSENT, np.int64)
        found[self._rows[workload]] = self._samples[workload].ns[stamp]
        return found

    def rows(self, workload: str) -> Ints:
        """The frame of each sample of that workload."""
        return self._rows[workload]


def _critical(joint: Joint, plans: Mapping[str, WorkloadPlan], frames: _Frames) -> list[tuple[str, ...]]:
    """The way of each frame that ended last."""

    def latest(among: tuple[str, ...]) -> NDArray[np.int64]:
        return np.stack([frames.column(name, "arrived_ns") for name in among]).argmax(axis=0)

    def ways(name: str) -> list[tuple[str, ...]]:
        load = plans[name].load
        if not isinstance(load, After):
            return [(name,)] * len(frames)
        before = [ways(each) for each in load.workloads]
        return [(*before[last][frame], name) for frame, last in enumerate(latest(load.workloads))]

    of = [ways(part) for part in joint.of]
    return [of[last][frame] for frame, last in enumerate(latest(joint.of))]


def _work_ms(frames: _Frames, workload: str, decided: NDArray[np.bool_]) -> float:
    """The mean time that a workload itself takes, in the frames that are decided."""
    return _mean(frames.column(workload, "arrived_ns")[decided], frames.column(workload, "scheduled_ns")[decided])


def _mean_ms(latency_ns: Ints, which: list[bool]) -> float | None:
    chosen = latency_ns[np.array(which, bool)]
    return stats.rounded(ms(chosen.mean())) if len(chosen) else None


def _mean(arrived_ns: Ints, due_ns: Ints) -> float:
    return float(ms((arrived_ns - due_ns).mean()))


def _right(
    joint: Joint, deployment: Deployment, samples: Mapping[str, Samples], frames: _Frames
) -> NDArray[np.float64] | None:
    """1 where all parts of a frame are right, else 0, NaN where a part's label does not tell, or it is not decided;
    None where a task has no opinion, or a stream no labels."""
    whole = np.ones(len(frames))
    for part in joint.of:
        judge = getattr(task_named(deployment.workloads[part].task), "right", None)
        each = samples[part]
        outputs, labels = each.scored(each.decided)
        if judge is None or len(outputs) != int(each.decided.sum()):
            return None
        by_frame = np.full(len(frames), np.nan)
        if len(outputs):
            by_frame[frames.rows(part)[each.decided]] = judge(outputs, labels)
        whole *= by_frame
    return whole
