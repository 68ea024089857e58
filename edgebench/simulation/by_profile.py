"""What nodes take by their profiles, by the very law by which a run would emulate them (see `core.emulation`).

What is drawn there for each message is a distribution here, parted as the stamps of an emulated run part it: so what
runs tell and what profiles tell go together. A message between a node with a profile and one without takes of what a
run says of two without a third each for sending it, for the broker and for taking it in, as emulation has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from cloud.export import BATCHES
from edgebench.clock import NS_PER_US
from edgebench.core.service_times import BatchTimes, SizedTimes, lacking, quantile_ns, splits_by
from edgebench.errors import EdgebenchError
from edgebench.seeds import rng_for
from edgebench.simulation.service_times import Cost, Ints, Model, ServiceTimes
from edgebench.topology import profiles_of
from edgebench.topology.model import Topology, Workload
from edgebench.topology.profiles import HOST, ByDataSheet, ModelKey, PictureCost, Profile, Times

Part = Literal["relay", "receive", "send", "answer"]
"""Of a message, as `profiles.MessageCost` has them."""
Parts = tuple[Part, ...]
SENT: Parts = ("send",)
HEARD: Parts = ("receive",)
PASSED_ON: Parts = ("receive", "send")
"""By the thread that takes messages in."""
GIVEN: Parts = ("answer",)
"""By that of a model."""
TAKEN: Parts = ("relay", "receive")
BROUGHT_BACK: Parts = ("send", "relay")
ANSWERED: Parts = ("answer", "relay")
"""By an edge, or the cloud, whose own broker relays what comes, and what its children hear."""
Ways = tuple[tuple[str, Parts], ...]
"""The profile of each of the two ends of a message, and which parts of it are that one's."""

_DRAWS = 1 << 10
"""So many values stand for a distribution of sums."""
_NOTHING_MORE = np.zeros(1, np.int64)
"""Of a step that emulation counts as a part of another."""
_PARTS_OF_A_MESSAGE = 3
_SEED = 0
"""Of how draws are paired: what a node takes is the same for every seed of a run."""

_Step = Callable[[int], float]
"""A draw of what something takes, ns, for a message of so many bytes."""


class ByProfile:
    """What the profiles of a topology's nodes tell. Distributions are ns, sorted [value]; None where a node is asked of
    that has none. sizes: of messages, bytes, sorted [value]. used: the names of the profiles that told something."""

    def __init__(self, topology: Topology, times: ServiceTimes) -> None:
        """times: what runs tell, of nodes without profiles, too."""
        # No profile tells what keeping samples on a disk takes.
        there = profiles_of(topology).values() if topology.durability == "none" else ()
        self._profiles: Mapping[str, Profile] = {profile.name: profile for profile in there}
        self._times = times
        self._used: dict[str, None] = {}

    @property
    def used(self) -> tuple[str, ...]:
        """The names of the profiles that told something so far."""
        return tuple(self._used)

    def knows(self, profile: str) -> bool:
        """Whether there is a profile of that name."""
        return profile in self._profiles

    def nothing_more(self, profile: str) -> Ints | None:
        """Of a step of which an emulated node's other steps include all: a sample is taken when it is due, and what
        packing it takes is a part of sending it."""
        return None if self._asked(profile) is None else _NOTHING_MORE

    def compressing(self, profile: str, plan: Workload) -> Ints | None:
        """What an emulated device does with a sample before it sends it."""
        found = self._asked(profile)
        if found is None or plan.compress is None:
            return self.nothing_more(profile)
        return _values(_picture(found, plan).compress)

    def decompressing(self, profile: str, plan: Workload | None) -> Ints | None:
        """What a node does with a sample, once it has taken it in. plan: None of what is no picture."""
        found = self._asked(profile)
        if found is None or plan is None or plan.compress is None:
            return self.nothing_more(profile)
        return _values(_picture(found, plan).decompress)

    def waking(self, profile: str) -> Ints | None:
        """What the thread of a model takes to begin when it had nothing to do. Raises EdgebenchError."""
        found = self._asked(profile)
        if found is None:
            return None
        if found.wake is None:
            raise EdgebenchError(f"'{profile}' has no times of waking the thread of a model ({_anew(found)})")
        return _values(found.wake)

    def holding(
        self, profile: str, qos: int, sizes: Ints, parts: Parts, pictures: Workload | None = None
    ) -> Ints | None:
        """For how long these parts of a message keep a thread of a node busy. pictures: the workload whose samples it
        decompresses besides. Raises EdgebenchError."""
        found = self._asked(profile)
        if found is None:
            return None
        steps = [_step(found, qos, part, sizes) for part in parts]
        if pictures is not None and pictures.compress is not None:
            steps.append(_of_times(_picture(found, pictures).decompress))
        return _drawn(sizes, steps)

    def message(self, cost: Cost, ways: Ways, qos: int, sizes: Ints) -> Ints | None:
        """What a message takes besides its link. cost: as runs know it, of whatever profile. Raises EdgebenchError."""
        return self.parts(cost, ways, qos, sizes) if any(self.knows(profile) for profile, _ in ways) else None

    def parts(self, cost: Cost, ways: Ways, qos: int, sizes: Ints) -> Ints | None:
        """As `message`, of some of its parts."""
        of_hosts = self._times.costs.get(cost._replace(profile=HOST))
        steps: list[_Step] = []
        for profile, parts in ways:
            found = self._asked(profile)
            if found is not None:
                steps += [_step(found, qos, part, sizes) for part in parts]
            elif profile == HOST and of_hosts is not None:
                steps.append(_share_of(of_hosts, len(parts) / _PARTS_OF_A_MESSAGE))
            else:
                return None
        return _drawn(sizes, steps)

    def batches(self, model: Model, wanted: Sequence[int], share: float | None) -> dict[int, Ints]:
        """What a model takes, by these sizes of a batch; empty where its profile does not tell.

        share: of the times of the whole, what a part of a model takes; None where nobody knows.
        """
        profile = self._profiles.get(model.profile)
        if profile is None or model.source != "train" or share is None or not wanted:
            return {}
        key = ModelKey(model.task, model.size, model.runtime, model.quantisation)
        times, sizes = profile.model_times(key), splits_by(model.runtime, BATCHES)
        if lacking(times, sizes, max(wanted)):
            return {}
        self._used[profile.name] = None
        drawn = BatchTimes({size: each.scaled(share) for size, each in times.items()}, sizes, _strata("infer", *model))
        return {n: _sorted([drawn.service_ns(n) for _ in range(_DRAWS)], least=1) for n in wanted}

    def _asked(self, profile: str) -> Profile | None:
        found = self._profiles.get(profile)
        if found is not None:
            self._used[profile] = None
        return found


def _anew(profile: Profile, *options: str) -> str:
    """How a profile comes to hold what it lacks."""
    board = f"'{profile.origin.like}'" if isinstance(profile.origin, ByDataSheet) else "the board"
    return f"measure {board} anew: {' '.join(('edgebench profile', *options))}"


def _picture(profile: Profile, plan: Workload) -> PictureCost:
    assert plan.compress is not None
    found = profile.picture_cost(plan.task, plan.compress.quality)
    if found is None:
        lacks = f"has no times of pictures of {plan.task} at quality {plan.compress.quality}"
        raise EdgebenchError(f"'{profile.name}' {lacks} ({_anew(profile, f'--task {plan.task}')})")
    return found


def _step(profile: Profile, qos: int, part: Part, sizes: Ints) -> _Step:
    costs = profile.message_costs(qos)
    if not costs:
        raise EdgebenchError(f"'{profile.name}' has no times of messages with qos {qos} ({_anew(profile)})")
    if sizes[-1] > costs[-1].size_bytes:
        told = f"'{profile.name}' tells nothing of messages beyond {costs[-1].size_bytes:,} bytes"
        mend = _anew(profile, f"--message-bytes {sizes[-1]}")
        raise EdgebenchError(f"{told}, and there are some of {sizes[-1]:,} ({mend})")
    sized = SizedTimes({each.size_bytes: getattr(each, part) for each in costs})
    strata = _strata(profile.name, part, qos)
    return lambda size_bytes: sized.ns(size_bytes, next(strata))


def _of_times(times: Times) -> _Step:
    strata = _strata("times")
    return lambda _: quantile_ns(times, next(strata))


def _share_of(values: Ints, share: float) -> _Step:
    strata = _strata("share")
    return lambda _: share * float(values[int(next(strata) * len(values))])


def _drawn(sizes: Ints, steps: Sequence[_Step]) -> Ints:
    """The sum of what some steps take for the same message."""
    strata = _strata("size")
    of_bytes = [int(sizes[int(next(strata) * len(sizes))]) for _ in range(_DRAWS)]
    return _sorted([sum(step(size) for step in steps) for size in of_bytes])


def _values(times: Times) -> Ints:
    return _sorted([each * NS_PER_US for each in times.us])


def _sorted(ns: Sequence[float], least: int = 0) -> Ints:
    found = np.sort(np.maximum(np.rint(np.array(ns)), least).astype(np.int64))
    return found[:1] if found[0] == found[-1] else found


def _strata(*purpose: str | int) -> Iterator[float]:
    """Endless numbers in [0, 1), one behind another of which `_DRAWS` lie in as many parts of that: so distributions
    that are drawn by them have the means of what they are drawn from."""
    rng = rng_for(_SEED, "by profile", *purpose)
    while True:
        yield from ((rng.permutation(_DRAWS) + 0.5) / _DRAWS).tolist()
