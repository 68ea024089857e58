"""Where an edge has a workload's samples decided while a run goes on: by itself, or by the cloud.

The edge knows what its samples take at the place where they are decided, and predicts what they would take at the other
one: by a trial, a sample that is decided there too, and of which nothing comes but the time it took, and by what all of
them would wait for there. The same stations as in a simulation: the link, then the server with its batches. It is the
edge that decides this, since a message from the cloud would not come through the link that it is about.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import msgspec
import numpy as np

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.topology.deployment import OnlinePlan
from edgebench.topology.model import Tier

_LOOKS = 3
"""So many trials at the least have to agree."""
_TRIALS_IN_HOLD = 4
_SAMPLES_A_TRIAL = 4
"""At the most every fourth sample is tried elsewhere, too: a trial to the cloud has to cross the link as well."""
_LOST_AFTER_HOLDS, _LOST_AFTER_TRIPS = 4, 2
"""Whoever has not answered a trial for so many times `hold_s`, and what the last answer took, never will."""
_LOST_NS = 10 * NS_PER_S
"""Nor after so long, whatever those are."""
_RATE_OVER_S = 1.0
_MOST_WAITING = 10_000
"""Of so many it is noted since when they wait, the first of which tells."""


class Takes(NamedTuple):
    """What a model takes where it is: for one sample, and for each in a batch of `max_batch`."""

    single_ns: float
    each_ns: float
    max_batch: int


class Trial(NamedTuple):
    """What a sample took at the other place, with what it had to wait for there.

    crossing_ns: of it, how long its bytes kept the link busy; 0 where it crossed none. takes: the model there.
    """

    total_ns: int
    crossing_ns: int
    takes: Takes


class Replaced(msgspec.Struct, frozen=True, tag="replaced"):
    """From `at_ns` on an edge (site) has the samples of a workload decided on another tier.

    measured_ms: what they took on the old one, predicted_ms: what they were to take on the new one, from when the edge
    had taken them in until their decisions left it; the means over `looks`, that many trials. rate_hz: of its samples.
    """

    workload: str
    site: str
    left: Tier
    to: Tier
    at_ns: int
    measured_ms: float
    predicted_ms: float
    looks: int
    rate_hz: float


class _Look(NamedTuple):
    at_ns: int
    measured_ns: float
    predicted_ns: float


class _Came(NamedTuple):
    since_ns: int = 0
    samples: int = 0


class OnlinePlacement:
    """Of one workload at one edge."""

    def __init__(self, workload: str, site: str, plan: OnlinePlan, rng: np.random.Generator, since_ns: int) -> None:
        """rng: by which sites that see the same do not move at the same time. since_ns: when the edge has begun; what
        it took in before was in an earlier life, and says nothing of this one."""
        self.tier: Tier = plan.begins
        """Where its samples are decided now."""
        self._workload = workload
        self._site = site
        self._gain = plan.gain
        self._hold_ns = plan.hold_s * NS_PER_S
        self._rng = rng
        self._agree_for_ns = self._drawn_ns()
        self._rate_over_ns = max(_RATE_OVER_S * NS_PER_S, self._hold_ns)
        self._before = _Came()
        self._came = _Came()
        self._waiting: deque[int] = deque()
        """When those came that nothing is known of yet, nor of any later one."""
        self._moved_ns = since_ns
        self._took_ns = self._took = 0
        self._last_ns: float | None = None
        """The mean of those that were decided before `_took`."""
        self._trial_ns: int | None = None
        self._trial_due_ns = 0.0
        self._trip_ns = 0
        self._untried = 0
        self._looks: list[_Look] = []

    def took_in(self, at_ns: int) -> bool:
        """The edge has taken a sample in. Whether it is to be tried at the other place as well, under that time."""
        if self._came.samples and (old_ns := at_ns - self._came.since_ns) >= self._rate_over_ns:
            self._before, self._came = self._came if old_ns < 2 * self._rate_over_ns else _Came(), _Came()
        self._came = _Came(self._came.since_ns if self._came.samples else at_ns, self._came.samples + 1)
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(at_ns)
        self._untried += 1
        if self._trial_ns is not None and at_ns - self._trial_ns >= self._lost_ns:
            self.forget_trial()
        if self._trial_ns is not None or at_ns < self._trial_due_ns or self._untried < _SAMPLES_A_TRIAL:
            return False
        self._note_mean()
        self._trial_ns = at_ns
        self._trial_due_ns = at_ns + self._hold_ns / _TRIALS_IN_HOLD
        self._untried = 0
        return True

    def done(self, began_ns: int, ended_ns: int) -> None:
        """The decision leaves the edge on a sample that it took in at `began_ns`."""
        if began_ns < self._moved_ns:
            return  # the old place still had it
        self._took_ns += ended_ns - began_ns
        self._took += 1
        while self._waiting and self._waiting[0] <= began_ns:
            self._waiting.popleft()

    def forget_trial(self) -> None:
        """Nothing will come of the one that is under way, so the others no longer agree."""
        self._trial_ns = None
        self._looks.clear()

    def let_go(self, began_ns: int) -> None:
        """The other place does not decide the trial of that time: what has no room for one is no place to go to."""
        if began_ns == self._trial_ns:
            self.forget_trial()

    def answered_late(self, took_ns: int) -> None:
        """A trial that was given up is answered after so long; the next one may take as long."""
        self._trip_ns = took_ns

    @property
    def _lost_ns(self) -> float:
        return min(_LOST_NS, max(_LOST_AFTER_HOLDS * self._hold_ns, _LOST_AFTER_TRIPS * self._trip_ns))

    def tried(self, began_ns: int, trial: Trial, now_ns: int) -> Replaced | None:
        """What came of the trial of that time. The move, where there is one: `tier` is the other one then."""
        self._trip_ns = now_ns - began_ns
        if began_ns != self._trial_ns:
            return None
        self._trial_ns = None
        measured_ns = self._measured_ns(now_ns)
        rate = self._rate(now_ns)
        waits_ns = _fifo_wait_ns(rate, trial.crossing_ns) + batched_wait_ns(rate, trial.takes)
        predicted_ns = trial.total_ns + waits_ns
        if measured_ns is None or predicted_ns > (1 - self._gain) * measured_ns:
            self._looks.clear()
            return None
        self._looks.append(_Look(now_ns, measured_ns, predicted_ns))
        if len(self._looks) < _LOOKS or now_ns - self._looks[0].at_ns < self._agree_for_ns:
            return None
        return self._move(now_ns, rate)

    def _move(self, at_ns: int, rate: float) -> Replaced:
        left, self.tier = self.tier, "cloud" if self.tier == "edge" else "edge"
        looks = self._looks
        measured_ns, predicted_ns = np.mean([(each.measured_ns, each.predicted_ns) for each in looks], axis=0).tolist()
        self._moved_ns = at_ns
        self._waiting.clear()
        self._took_ns = self._took = 0
        self._last_ns = None
        self._looks = []
        self._agree_for_ns = self._drawn_ns()
        numbers = (measured_ns / NS_PER_MS, predicted_ns / NS_PER_MS, len(looks), rate * NS_PER_S)
        return Replaced(self._workload, self._site, left, self.tier, at_ns, *numbers)

    def _measured_ns(self, now_ns: int) -> float | None:
        """The mean of those that were decided last, or how long the first waits that is not."""
        self._note_mean()
        waits_ns = now_ns - self._waiting[0] if self._waiting else 0
        return max(self._last_ns or 0.0, waits_ns) or None

    def _note_mean(self) -> None:
        if self._took:
            self._last_ns = self._took_ns / self._took
            self._took_ns = self._took = 0

    def _rate(self, now_ns: int) -> float:
        """Samples a ns, since they were counted anew the last time but one."""
        counted = [each for each in (self._before, self._came) if each.samples]
        samples = sum(each.samples for each in counted)
        return (samples - 1) / max(1, now_ns - counted[0].since_ns) if counted else 0.0

    def _drawn_ns(self) -> float:
        return self._hold_ns * float(self._rng.uniform(1.0, 2.0))


def _fifo_wait_ns(rate: float, service_ns: float) -> float:
    """The mean wait for one server by those that come at random, so many a ns. Source: Pollaczek and Khinchine, for
    equal service times."""
    busy = rate * service_ns
    return busy * service_ns / (2 * (1 - busy)) if busy < 1 else math.inf


def batched_wait_ns(rate: float, takes: Takes) -> float:
    """The mean of what they take longer than `single_ns` at a server that decides all that there is together, a full
    batch at most.

    By the bounds for batches of any size n that take `fixed + more n`, which are near (Source: Inoue, Queueing analysis
    of GPU-based inference servers with dynamic batching, 2021), but no more than for the wait of one by one and then
    half of a full batch, and no less than for the wait where each takes its share of a full batch.
    """
    single_ns, each_ns, most = takes
    if most == 1:
        return _fifo_wait_ns(rate, single_ns)
    if rate * each_ns >= 1:
        return math.inf
    fixed_ns = min(single_ns, max(0.0, (single_ns - each_ns) * most / (most - 1)))
    more_ns = max(single_ns, each_ns) - fixed_ns
    busy, fixed = rate * more_ns, rate * fixed_ns
    bounds_ns = (
        (more_ns + fixed_ns) / (2 * (1 - busy)) * (1 + 2 * fixed + (1 - fixed) / (1 + busy)),
        1.5 * fixed_ns / (1 - busy) + more_ns / 2 * (busy + 2) / (1 - busy**2),
        single_ns + _fifo_wait_ns(rate, max(single_ns, each_ns)) + max(0.0, most * each_ns - single_ns) / 2,
    )
    return max(_fifo_wait_ns(rate, each_ns), min(bounds_ns) - single_ns)
