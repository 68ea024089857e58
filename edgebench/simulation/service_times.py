"""What things take: distributions of service times, message costs and sizes that were measured somewhere.

A waiting time is never among them: those are what a simulation finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import EdgebenchError
from edgebench.fabric.records import Cut
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Cascade, Jpeg, ModelChoice, Training, Workload
from edgebench.topology.wording import listed

Ints = NDArray[np.int64]


class Model(NamedTuple):
    """What decides, and on which kind of machine. part: of a chain, which of its stages it is; empty of a model that
    takes a task's own samples and is whole."""

    profile: str
    task: str
    size: str
    runtime: str
    quantisation: str
    source: str
    part: str = ""

    @property
    def told(self) -> str:
        """In words."""
        of = ", ".join(filter(None, (self.size, self.runtime, self.quantisation, self.part)))
        return f"{self.task} ({of}) on profile {self.profile}"


class Cost(NamedTuple):
    """What a message costs on its way, or is large. step: one of `STEPS`; what does not matter for it is empty.
    profile: of what belongs to two nodes, that of both (see `between`)."""

    step: str
    profile: str = ""
    task: str = ""
    how: str = ""

    @property
    def told(self) -> str:
        """In words."""
        if self.step in _BETWEEN_TWO:
            return f"{STEPS[self.step]}, between {self.how}"
        of = " ".join(part for part in (self.task, self.how) if part)
        on = f" on profile {self.profile}" if self.profile else ""
        return f"{STEPS[self.step]}{f' of {of}' if of else ''}{on}"


STEPS = {
    "size": "the bytes of a sample",
    "reply": "the bytes of a decision",
    "timer": "how late a device takes a sample",
    "capture": "what taking and packing a sample costs",
    "site-up": "what a message from a device to its edge takes besides the link",
    "decode": "what checking and unpacking a sample costs",
    "intake": "what taking a sample in keeps a node busy for",
    "relay": "what taking a sample in to pass it on keeps an edge busy for",
    "wake": "what waking up to decide takes",
    "answer": "what answering a sample costs",
    "pass-on": "what passing a sample on to the cloud costs",
    "output": "the bytes that the first stage of a chain gives",
    "hand-on": "what handing on what the first stage of a chain gives costs",
    "backhaul-up": "what a message from an edge to the cloud takes besides the link",
    "backhaul-down": "what a message from the cloud to an edge takes besides the link",
    "hand-back": "what handing a decision of the cloud back costs",
    "site-down": "what a message from an edge to a device takes besides the link",
    "begin": "what taking a sample and beginning with it on the device takes",
    "hear": "what handing a decision over on the device takes",
    "connect": "what connecting at another site takes besides the link",
    "content": "the bytes of a model to learn on",
    "update": "the bytes of what was learned",
    "learn": "what a step of learning takes",
    "begin-learning": "what beginning to learn takes",
    "fetch": "what bringing a model to a client takes besides links",
    "serve": "what serving a model to a client takes",
    "hand-in": "what bringing an answer takes besides links",
    "take": "what taking in an answer takes",
    "aggregate": "what aggregating takes",
    "next-round": "what a round takes to begin",
    "site": "what an edge takes besides its rounds",
}
"""What each is: ns, or bytes."""

_BETWEEN_TWO = ("fetch", "serve", "hand-in", "take")
"""Whose `how` says between whom."""

BYTES_A_VALUE = 4
"""Of what the first stage of a chain gives."""

FORWARDED = "by the cloud"
"""How a decision was made on what an edge passed on."""


class Cuts(NamedTuple):
    """Where a model was cut in two in one run. by_place: each cut that was made or thought of; considered: those among
    which `auto` chose, if it did; places: how many there are."""

    by_place: Mapping[int, Cut]
    considered: frozenset[int]
    places: int


class Cascading(NamedTuple):
    """All that decides which samples a cascade passes on, on whatever machine: its two models, whose profile is left
    empty, what they were trained and their threshold was calibrated for, and what they see. compress: as `compress_of`
    has it; data: the folder, empty where it is generated."""

    light: Model
    heavy: Model
    target_quality: float | None = None
    train: Training = Training()
    compress: str = ""
    data: str = ""

    @property
    def told(self) -> str:
        """In words."""
        models = (f"{each.size}, {each.runtime}, {each.quantisation}" for each in (self.light, self.heavy))
        more = (
            ("target_quality", self.target_quality),
            ("train.epochs", self.train.epochs),
            ("train.examples", self.train.examples),
            ("compress", self.compress or None),
            ("data", self.data or None),
        )
        asked = (f"{name} {value}" for name, value in more if value is not None)
        return f"a cascade of {self.light.task} ({'; '.join((' before '.join(models), *asked))})"


class UntoldError(EdgebenchError):
    """Nothing tells what something takes, and a run in which it is seen would."""


class PassedOn(NamedTuple):
    """So many samples of all that were decided a cascade has passed on to the cloud."""

    n: int = 0
    of: int = 0

    @property
    def share(self) -> float:
        """Of all."""
        return self.n / self.of

    def and_of(self, other: PassedOn) -> PassedOn:
        """Both together."""
        return PassedOn(self.n + other.n, self.of + other.of)


@dataclass(frozen=True)
class ServiceTimes:
    """infer: ns, by size of a batch. at_once: those of batches that begin as soon as another is done, with caches and
    clocks as that has left them; where none are known, they are as others. costs: ns, or bytes. All are sorted, and
    never empty. unsure: what cascades pass on. sources: what they were measured in; folders: where that is. cuts: of
    models, whose profile is left empty, by each run that cut them: what the parts took in different runs is not
    compared. doubts: why one of the sources should not be trusted, a line each. crowded: of costs, those that are told
    by samples that were sensed together, as too few were apart; they have waited for each other, and count where
    nothing else tells. aggregate: ns, by the number of answers that are aggregated."""

    infer: Mapping[Model, Mapping[int, Ints]] = field(default_factory=dict)
    at_once: Mapping[Model, Mapping[int, Ints]] = field(default_factory=dict)
    costs: Mapping[Cost, Ints] = field(default_factory=dict)
    unsure: Mapping[Cascading, PassedOn] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    cuts: Mapping[Model, Sequence[Cuts]] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    crowded: frozenset[Cost] = frozenset()
    folders: tuple[str, ...] = ()
    aggregate: Mapping[Cost, Mapping[int, Ints]] = field(default_factory=dict)

    def by_batch(
        self, model: Model, most: int, *, at_once: bool = False, beside: Mapping[int, Ints] | None = None
    ) -> list[Ints | None]:
        """The service times of batches of 0, 1, … `most` samples; None of those that nothing is known of.

        beside: those that something else tells, of sizes that were not measured. A size between two that are known lies
        between these, rank by rank. Raises UntoldError where none is.
        """
        found = self.infer.get(model)
        if found and at_once:
            found = {**found, **self.at_once.get(model, {})}
        found = {**(beside or {}), **(found or {})}
        if not found:
            known = sorted(each.told for each in self.infer)
            raise UntoldError(f"no service time of {model.told} is known (known: {listed(known) or 'none'})")
        sizes = sorted(found)
        return [_between(found, sizes, size) for size in range(most + 1)]

    def cost(self, *choices: Cost) -> Ints:
        """The first of several that was measured. Raises UntoldError where none was."""
        for each in choices:
            if each in self.costs:
                return self.costs[each]
        raise UntoldError(f"nothing is known of {choices[0].told}")

    def aggregating(self, cost: Cost) -> Mapping[int, Ints]:
        """What aggregating takes, by the number of answers. Raises UntoldError where that was never measured."""
        if cost not in self.aggregate:
            raise UntoldError(f"nothing is known of {cost.told}")
        return self.aggregate[cost]

    def passed_on(self, cascade: Cascading) -> float:
        """What share a cascade passes on. Raises UntoldError where none like it was measured."""
        if cascade in self.unsure:
            return self.unsure[cascade].share
        known = sorted(each.told for each in self.unsure)
        why = f"nothing is known of the share that {cascade.told} passes on"
        raise UntoldError(f"{why} (known: {listed(known) or 'none'})")


def model_of(profile: str, task: str, choice: ModelChoice | Cascade) -> Model:
    """The key of a model that decides on a kind of machine."""
    source = choice.source if isinstance(choice, ModelChoice) else "train"
    return Model(profile, task, choice.size, choice.runtime, choice.quantisation, source)


def cascading_of(plan: Workload | WorkloadPlan, data: str | None) -> Cascading:
    """What decides which samples of a workload go on to the cloud. data: the folder that its topology names."""
    heavy = model_of("", plan.task, plan.cascade or Cascade())
    quality = None if plan.cascade is None else plan.cascade.target_quality
    folder = "" if data is None else str(Path(data).resolve())
    return Cascading(
        model_of("", plan.task, plan.model), heavy, quality, plan.train, compress_of(plan.compress), folder
    )


_BELOW = " below "


def between(child: str, parent: str) -> str:
    """The profile of two nodes."""
    return child if child == parent else f"{child}{_BELOW}{parent}"


def profiles_in(cost: Cost) -> set[str]:
    """Of the one or two nodes that something is a cost at; none of how large something is."""
    return {*cost.profile.split(_BELOW)} - {""}


def compress_of(compress: Jpeg | None) -> str:
    """How samples are compressed, as part of a key; empty for not at all."""
    return "" if compress is None else f"as JPEG {compress.quality}"


def merged(several: Iterable[ServiceTimes]) -> ServiceTimes:
    """What was measured in several places, together."""
    all_of = list(several)
    models = {model: None for each in all_of for model in each.infer}
    apart = {cost for each in all_of for cost in each.costs if cost not in each.crowded}
    return ServiceTimes(
        infer={model: _joined(each.infer.get(model, {}) for each in all_of) for model in models},
        at_once={model: _joined(each.at_once.get(model, {}) for each in all_of) for model in models},
        costs=_joined(
            {cost: values for cost, values in each.costs.items() if cost not in each.crowded or cost not in apart}
            for each in all_of
        ),
        crowded=frozenset(cost for each in all_of for cost in each.crowded if cost not in apart),
        unsure=_together(each.unsure for each in all_of),
        sources=tuple(source for each in all_of for source in each.sources),
        folders=tuple(folder for each in all_of for folder in each.folders),
        cuts={
            model: [cuts for each in all_of for cuts in each.cuts.get(model, ())]
            for model in dict.fromkeys(model for each in all_of for model in each.cuts)
        },
        doubts=tuple(doubt for each in all_of for doubt in each.doubts),
        aggregate={
            cost: _joined(each.aggregate.get(cost, {}) for each in all_of)
            for cost in dict.fromkeys(cost for each in all_of for cost in each.aggregate)
        },
    )


def _together(several: Iterable[Mapping[Cascading, PassedOn]]) -> dict[Cascading, PassedOn]:
    found: dict[Cascading, PassedOn] = {}
    for each in several:
        for cascade, passed in each.items():
            found[cascade] = found.get(cascade, PassedOn()).and_of(passed)
    return found


def _joined(several: Iterable[Mapping[Any, Ints]]) -> dict[Any, Ints]:
    parts: dict[Any, list[Ints]] = {}
    for each in several:
        for key, values in each.items():
            parts.setdefault(key, []).append(values)
    return {key: np.sort(np.concatenate(values)) for key, values in parts.items()}


def aggregate_ns(found: Mapping[int, Ints], answers: int) -> Ints:
    """What aggregating so many answers takes: as many, or fewer, were measured, or more than ever, in proportion."""
    sizes = sorted(found)
    if answers > sizes[-1]:
        return np.rint(found[sizes[-1]] * (answers / sizes[-1])).astype(np.int64)
    between_two = _between(found, sizes, answers)
    return found[sizes[0]] if between_two is None else between_two


def _between(found: Mapping[int, Ints], sizes: list[int], size: int) -> Ints | None:
    if size in found:
        return found[size]
    below, above = [each for each in sizes if each < size], [each for each in sizes if each > size]
    if not below or not above:
        return None
    low, high = found[below[-1]], found[above[0]]
    count = max(len(low), len(high))
    ranks = (np.arange(count) + 0.5) / count
    share = (size - below[-1]) / (above[0] - below[-1])
    of_low, of_high = (np.quantile(each, ranks, method="inverted_cdf") for each in (low, high))
    mixed = (1 - share) * of_low + share * of_high
    return np.maximum(np.rint(mixed), 1).astype(np.int64)
