"""Decisions that are made of several: when the last part of a frame was there, and which way it took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgebench.results import stats
from edgebench.results.chunks import ABSENT, SampleChunk, decides_at_random, latency_of, ms
from edgebench.results.observations import Observations
from edgebench.results.sample_figures import JointFigures, PathFigures
from edgebench.results.values import Ints, Mergeable, Values
from edgebench.tasks import task_named
from edgebench.topology.deployment import Deployment, WorkloadPlan
from edgebench.topology.model import After, Joint

_OPEN_ROWS = 1 << 17
"""Samples that may wait for the others of their frames before it is looked which are whole."""

Path = tuple[str, ...]


class _Rows(NamedTuple):
    """Samples of one workload: the frame of each, when it was due and decided, and whether it is right [sample]."""

    frame: Ints
    due_ns: Ints
    arrived_ns: Ints
    right: NDArray[np.float32]

    def take(self, which: NDArray[np.bool_]) -> _Rows:
        return _Rows(self.frame[which], self.due_ns[which], self.arrived_ns[which], self.right[which])


_NO_INTS = np.zeros(0, np.int64)
_NONE = _Rows(_NO_INTS, _NO_INTS, _NO_INTS, np.zeros(0, np.float32))


@dataclass
class _Sums(Mergeable):
    """Of frames. work_ns, path_ns: sums of what its workloads took, and of the latency by critical path."""

    frames: int = 0
    late: int = 0
    latency_ns: Values = field(default_factory=Values)
    work_ns: Counter[str] = field(default_factory=Counter)
    critical: Counter[Path] = field(default_factory=Counter)
    path_ns: Counter[Path] = field(default_factory=Counter)
    judged: int = 0
    right: float = 0.0


class JointFold:
    """One joint decision. A frame, which is a device and a sequence number, is added up once all its samples are there;
    only those of which one is still missing are kept."""

    def __init__(self, joint: Joint, deployment: Deployment, observations: Observations) -> None:
        self._joint = joint
        self._plans = deployment.workloads
        self._places = {node: place for place, node in enumerate(deployment.nodes)}
        self._paths = [path for part in joint.of for path in _paths(part, self._plans)]
        self._involved = sorted({workload for path in self._paths for workload in path})
        judges = {part: getattr(task_named(self._plans[part].task), "right", None) for part in joint.of}
        tells = not any(decides_at_random(part, observations) for part in joint.of)
        self._judges = judges if tells and None not in judges.values() else {}
        self._sums = _Sums()
        self._open: dict[str, list[_Rows]] = {name: [] for name in self._involved}
        self._look_at = _OPEN_ROWS

    def update(self, workload: str, chunk: SampleChunk) -> None:
        """Take in a chunk of any workload."""
        if workload not in self._open:
            return
        right = np.full(len(chunk), np.nan, np.float32)
        judge = self._judges.get(workload)
        if judge is not None and chunk.scored.any():
            right[chunk.scored] = judge(*chunk.outputs_and_labels())
        rows = _Rows(chunk.keys(self._places), chunk.own_ns("scheduled_ns"), chunk.own_ns("arrived_ns"), right)
        self._open[workload].append(rows)
        self._look_for_whole_ones()

    def merge(self, other: JointFold) -> None:
        """Take in those of another, which was made with the same arguments."""
        self._sums.merge(other._sums)
        for name, rows in other._open.items():
            self._open[name] += rows
        self._look_for_whole_ones()

    def figures(self) -> JointFigures:
        """The figures; those frames that are not whole are counted as they are."""
        sums = self._added_up(self._joined())
        sums.merge(self._sums)
        decided = len(sums.latency_ns)
        measured = self._involved if decided else []
        work_ms = {name: stats.rounded(ms(sums.work_ns[name] / decided)) for name in measured}
        return JointFigures(
            of=list(self._joint.of),
            frames=sums.frames,
            decided=decided,
            late=sums.late,
            deadline_ms=self._joint.deadline_ms,
            latency_ms=latency_of(sums.latency_ns),
            work_ms=work_ms,
            parts_ms=stats.rounded(sum(work_ms.values())) if work_ms else None,
            paths=[
                PathFigures(
                    path=list(path),
                    critical=sums.critical[path],
                    mean_ms=_mean_ms(sums.path_ns[path], sums.critical[path]),
                )
                for path in dict.fromkeys(self._paths)
            ],
            judged=sums.judged,
            right=stats.rounded(sums.right / sums.judged) if sums.judged else None,
        )

    def _joined(self) -> dict[str, _Rows]:
        return {
            name: _Rows(*(np.concatenate(columns) for columns in zip(_NONE, *rows, strict=True)))
            for name, rows in self._open.items()
        }

    def _look_for_whole_ones(self) -> None:
        if sum(len(rows.frame) for each in self._open.values() for rows in each) < self._look_at:
            return
        rows = self._joined()
        whole = rows[self._involved[0]].frame
        for name in self._involved[1:]:
            whole = np.intersect1d(whole, rows[name].frame)
        among = {name: np.isin(each.frame, whole) for name, each in rows.items()}
        self._sums.merge(self._added_up({name: each.take(among[name]) for name, each in rows.items()}))
        self._open = {name: [each.take(~among[name])] for name, each in rows.items()}
        # Those left may wait for long, and are not worth looking through each time.
        self._look_at = _OPEN_ROWS + 2 * sum(len(each.frame) - int(among[name].sum()) for name, each in rows.items())

    def _added_up(self, rows: Mapping[str, _Rows]) -> _Sums:
        frames = np.unique(np.concatenate([each.frame for each in rows.values()]))
        at = {name: np.searchsorted(frames, each.frame) for name, each in rows.items()}

        def column(values: Ints, name: str) -> Ints:
            """By frame, `ABSENT` where it has no such sample."""
            found = np.full(len(frames), ABSENT, np.int64)
            found[at[name]] = values
            return found

        due = {name: column(each.due_ns, name) for name, each in rows.items()}
        arrived = {name: column(each.arrived_ns, name) for name, each in rows.items()}
        first_ns = np.stack([due[path[0]] for path in self._paths])
        # A part that waits was due when its frame was.
        due_ns = np.where(first_ns == ABSENT, np.iinfo(np.int64).max, first_ns).min(axis=0)
        arrived_ns = np.stack([arrived[part] for part in self._joint.of])
        decided = (arrived_ns != ABSENT).all(axis=0)
        latency_ns = arrived_ns.max(axis=0)[decided] - due_ns[decided]
        deadline_ms = self._joint.deadline_ms
        sums = _Sums(frames=len(frames), late=0 if deadline_ms is None else int((ms(latency_ns) > deadline_ms).sum()))
        sums.latency_ns.update(latency_ns)
        for name in self._involved:
            sums.work_ns[name] += int((arrived[name] - due[name])[decided].sum())
        paths, critical = _last_of(self._joint.of, self._plans, arrived)
        for place, path in enumerate(paths):
            mine = critical[decided] == place
            sums.critical[path] += int(mine.sum())
            sums.path_ns[path] += int(latency_ns[mine].sum())
        if self._judges:
            right = np.ones(len(frames))
            for part in self._joint.of:
                of_part = np.full(len(frames), np.nan)
                of_part[at[part]] = rows[part].right
                right *= of_part
            known = right[decided & np.isfinite(right)]
            sums.judged, sums.right = len(known), float(known.sum())
        return sums


def _mean_ms(total_ns: int, count: int) -> float | None:
    return stats.rounded(ms(total_ns / count)) if count else None


def _paths(part: str, plans: Mapping[str, WorkloadPlan]) -> list[Path]:
    """All ways from a workload that waits for none to this one."""
    load = plans[part].load
    if not isinstance(load, After):
        return [(part,)]
    return [(*path, part) for before in load.workloads for path in _paths(before, plans)]


def _last_of(
    parts: tuple[str, ...], plans: Mapping[str, WorkloadPlan], arrived: Mapping[str, Ints]
) -> tuple[list[Path], Ints]:
    """The ways to these parts, and the place among them of that which ended last [frame]."""
    paths: list[Path] = []
    places = []
    for part in parts:
        load = plans[part].load
        if isinstance(load, After):
            before, place = _last_of(load.workloads, plans, arrived)
        else:
            before, place = [()], np.zeros(len(arrived[part]), np.int64)
        places.append(place + len(paths))
        paths += [(*path, part) for path in before]
    last = np.stack([arrived[part] for part in parts]).argmax(axis=0)
    return paths, np.stack(places)[last, np.arange(len(last))]
