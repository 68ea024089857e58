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
_LOST_NS = 10 * NS_PER_S
"""Whoever has not answered a trial for so long never will."""
_RATE_OVER_S = 1.0


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


class OnlinePlacement:
    """Of one workload at one edge."""

    def __init__(self, workload: str, site: str, plan: OnlinePlan, rng: np.random.Generator) -> None:
        """rng: by which sites that see the same do not move at the same time."""
        self.tier: Tier = plan.begins
        """Where its samples are decided now."""
        self._workload = workload
        self._site = site
        self._gain = plan.gain
        self._hold_ns = plan.hold_s * NS_PER_S
        self._rng = rng
        self._agree_for_ns = self._drawn_ns()
        self._rate_over_ns = max(_RATE_OVER_S * NS_PER_S, self._hold_ns)
        self._arrived: deque[int] = deque()
        self._waiting: deque[int] = deque()
        """When those came that nothing is known of yet, nor of any later one."""
        self._moved_ns = 0
        self._took_ns = self._took = 0
        self._last_ns: float | None = None
        """The mean of those that were decided before `_took`."""
        self._trial_ns: int | None = None
        self._trial_due_ns = 0.0
        self._untried = 0
        self._looks: list[_Look] = []

    def took_in(self, at_ns: int) -> bool:
        """The edge has taken a sample in. Whether it is to be tried at the other place as well, under that time."""
        self._arrived.append(at_ns)
        while self._arrived[0] < at_ns - self._rate_over_ns:
            self._arrived.popleft()
        self._waiting.append(at_ns)
        self._untried += 1
        is_tried = self._trial_ns is not None and at_ns - self._trial_ns < _LOST_NS
        if is_tried or at_ns < self._trial_due_ns or self._untried < _SAMPLES_A_TRIAL:
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
        """Nothing will come of the one that is under way."""
        self._trial_ns = None

    def tried(self, began_ns: int, trial: Trial, now_ns: int) -> Replaced | None:
        """What came of the trial of that time. The move, where there is one: `tier` is the other one then."""
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
        """Samples a ns."""
        return (len(self._arrived) - 1) / max(1, now_ns - self._arrived[0]) if self._arrived else 0.0

    def _drawn_ns(self) -> float:
        return self._hold_ns * float(self._rng.uniform(1.0, 2.0))


def _fifo_wait_ns(rate: float, service_ns: float) -> float:
    """The mean wait for one server by those that come at random, so many a ns. Source: Pollaczek and Khinchine, for
    equal service times."""
    busy = rate * service_ns
    return busy * service_ns / (2 * (1 - busy)) if busy < 1 else math.inf


def batched_wait_ns(rate: float, takes: Takes) -> float:
    """The mean of what they wait more than `single_ns` for a server that takes all that there is, a full batch at most.

    One by one as long as that is quicker. Else a batch of n takes a + b n, and has in it what came during the last one:
    n = rate (a + b n). It is waited for half as long as it takes.
    """
    alone_ns = _fifo_wait_ns(rate, takes.single_ns)
    if takes.max_batch == 1 or rate * takes.each_ns >= 1:
        return alone_ns
    more_ns = max(0.0, (takes.max_batch * takes.each_ns - takes.single_ns) / (takes.max_batch - 1))
    batch_ns = (takes.single_ns - more_ns) / (1 - rate * more_ns)
    return min(alone_ns, max(0.0, 1.5 * batch_ns - takes.single_ns))
