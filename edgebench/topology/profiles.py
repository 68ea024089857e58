"""A profile: how long the work of a node takes on a machine, as it was measured there, or as a data sheet has it.

Pure data: executors emulate a machine by it, and whatever computes in virtual time may draw from it. A cost that a
profile does not hold is nowhere taken for 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from edgebench.topology.fields import MemoryMb, Name, Strict
from edgebench.topology.model import Fit, Quantisation, Runtime

HOST = "host"
"""The profile of a node that is as fast as the machine it runs on: nothing of it is emulated."""

SUFFIXES = (".json", ".yaml", ".yml")
"""Of a profile's file."""

Cores = Annotated[int, Meta(ge=1, le=4096)]
Bytes = Annotated[int, Meta(ge=1, le=1 << 30)]
Watts = Annotated[float, Meta(ge=0, le=1e6)]
Share = Annotated[float, Meta(ge=0, le=1)]
Size = Literal["light", "heavy", "published"]


class Times(Strict, frozen=True):
    """A distribution of times. us: µs, ascending; each stands for an equal share of the `n` that were measured, and is
    the mean of these, so that the mean of all is that of what was measured."""

    n: Annotated[int, Meta(ge=1)]
    us: Annotated[tuple[float, ...], Meta(min_length=1, max_length=1000)]

    @property
    def mean_us(self) -> float:
        """The mean."""
        return math.fsum(self.us) / len(self.us)

    def scaled(self, times: float) -> Times:
        """So many times as long."""
        return Times(self.n, tuple(each * times for each in self.us))


class Inference(Strict, frozen=True):
    """A model's time for a batch. times: once it is warm; first_ms: to load it and for its first call, ms.
    memory_mb: of a process that runs it and does nothing else, 10⁶ bytes. The last two are for people."""

    task: str
    size: Size
    runtime: Runtime
    quantisation: Quantisation
    threads: Annotated[int, Meta(ge=1)]
    batch: Annotated[int, Meta(ge=1)]
    times: Times
    first_ms: float | None = None
    memory_mb: float | None = None


class TrainingCost(Strict, frozen=True):
    """Learning on a device. step: of one with `batch` samples; rest: what a request takes besides its steps, from its
    being there to the reply's being ready to be sent. memory_mb: of a process that learns so and does nothing else, 10⁶
    bytes, for people."""

    task: str
    size: Size
    runtime: Literal["litert", "keras", "torch"]
    batch: Annotated[int, Meta(ge=1)]
    step: Times
    rest: Times
    memory_mb: float | None = None


class MessageCost(Strict, frozen=True):
    """An MQTT message with a payload of `size_bytes`, over TLS, as the machines of a lab speak.

    relay: a broker there takes it in and passes it on to one who hears it. receive: from there until a node has taken
    it out of its connection and checked it as a sample. send: until a message is with the broker that the node sends as
    soon as it has taken one in; answer: one that it sends from the thread of a model, a decision.
    """

    qos: Literal[0, 1]
    size_bytes: Bytes
    relay: Times
    receive: Times
    send: Times
    answer: Times


class PictureCost(Strict, frozen=True):
    """A task's sample made a JPEG file of this quality, and made a tensor again."""

    task: str
    quality: Annotated[int, Meta(ge=1, le=95)]
    compress: Times
    decompress: Times


class Power(Strict, frozen=True):
    """What the machine draws when it does nothing, and with all its cores busy, W. source: who says so, and where.
    measured: there, by a meter; else by a data sheet."""

    idle_w: Watts
    active_w: Watts
    source: str
    measured: bool = False


class Sustained(Strict, frozen=True):
    """What became of a model's time while all cores were busy with it for `load_s` seconds.

    slowdown: the median of the last tenth over that of the first. from_s: when it was first 5 % slower to stay, s; None
    where it never was. hottest_c: the highest temperature that the machine told meanwhile, °C.
    """

    load_s: float
    slowdown: float
    from_s: float | None = None
    hottest_c: float | None = None


class Measured(Strict, frozen=True, tag="measured", tag_field="by"):
    """Measured on the machine itself. at: UTC. broker: that passed the messages on, with its version. others: which
    share of the processor others took meanwhile, other virtual machines included; None where nobody looked."""

    at: str
    edgebench: str
    machine: str
    cpu: str
    system: str
    broker: str
    others: Share | None = None


class ByDataSheet(Strict, frozen=True, tag="data sheet", tag_field="by"):
    """Nobody measured it: the times of the machine `like`, so many `times_slower`, which is what `source` says."""

    like: str
    times_slower: float
    source: str


class Profile(Strict, frozen=True, tag="profile", tag_field="kind"):
    """A machine. inference, training, messages, pictures: each by its key, once.

    wake: what passes from a sample's being there until the thread of a model that had nothing to do begins with it.
    """

    schema: Literal[1]
    name: Name
    origin: Measured | ByDataSheet
    cores: Cores
    memory_mb: MemoryMb
    inference: tuple[Inference, ...] = ()
    training: tuple[TrainingCost, ...] = ()
    messages: tuple[MessageCost, ...] = ()
    wake: Times | None = None
    pictures: tuple[PictureCost, ...] = ()
    power: Power | None = None
    sustained: Sustained | None = None

    def model_times(self, model: ModelKey) -> dict[int, Times]:
        """Of one model, on one thread: batch size -> times; empty where it was not measured."""
        found = [each for each in self.inference if each.threads == 1 and _model(each) == model]
        return {each.batch: each.times for each in sorted(found, key=lambda each: each.batch)}

    def message_costs(self, qos: int) -> tuple[MessageCost, ...]:
        """Those of a quality of service, by ascending size."""
        return tuple(sorted((each for each in self.messages if each.qos == qos), key=lambda each: each.size_bytes))

    def picture_cost(self, task: str, quality: int) -> PictureCost | None:
        """Of a task's pictures."""
        return next((each for each in self.pictures if (each.task, each.quality) == (task, quality)), None)

    def training_cost(self, task: str, size: str, fit: Fit, batch: int) -> TrainingCost | None:
        """Of a model that devices learn."""
        key = (task, size, fit.runtime, batch)
        return next((each for each in self.training if (each.task, each.size, each.runtime, each.batch) == key), None)

    def of_tasks(self, tasks: set[str]) -> Profile:
        """What of it concerns these tasks."""
        return msgspec.structs.replace(
            self,
            inference=tuple(each for each in self.inference if each.task in tasks),
            training=tuple(each for each in self.training if each.task in tasks),
            pictures=tuple(each for each in self.pictures if each.task in tasks),
        )


class DataSheet(Strict, frozen=True, tag="data-sheet", tag_field="kind"):
    """A machine that nobody measured: it takes so many `times_slower` as the one whose profile is in the file `like`.

    source: where that ratio is published.
    """

    schema: Literal[1]
    name: Name
    cores: Cores
    memory_mb: MemoryMb
    like: str
    times_slower: Annotated[float, Meta(gt=0, le=1e6)]
    source: Annotated[str, Meta(min_length=1)]
    power: Power | None = None

    def scaled(self, like: Profile) -> Profile:
        """The profile that it stands for."""
        scaled = _each_time(like, lambda times: times.scaled(self.times_slower))
        return msgspec.structs.replace(
            scaled,
            inference=tuple(map(self._first_scaled, scaled.inference)),
            name=self.name,
            origin=ByDataSheet(like.name, self.times_slower, self.source),
            cores=self.cores,
            memory_mb=self.memory_mb,
            power=self.power,
            sustained=None,
        )

    def _first_scaled(self, cost: Inference) -> Inference:
        first_ms = None if cost.first_ms is None else cost.first_ms * self.times_slower
        return msgspec.structs.replace(cost, first_ms=first_ms)


class ModelKey(NamedTuple):
    """What sets one model's times apart from another's."""

    task: str
    size: str
    runtime: str
    quantisation: str

    def __str__(self) -> str:
        return f"{self.task}, {self.size}, {self.runtime}, {self.quantisation}"


def names_a_file(profile: str) -> bool:
    """Whether what a node says of its profile is a file, rather than a name."""
    return profile.endswith(SUFFIXES) or "/" in profile


Problem = tuple[str, str]


def check_profile(profile: Profile) -> Iterator[Problem]:
    """What the shape of single fields does not show."""
    if profile.name == HOST:
        yield "$.name", f"'{HOST}' means a node that is not emulated (name it otherwise)"
    keys: dict[tuple[object, ...], str] = {}
    for field in ("inference", "training", "messages", "pictures"):
        for index, cost in enumerate(getattr(profile, field)):
            path = f"$.{field}[{index}]"
            key = (field, *(value for value in msgspec.structs.astuple(cost) if isinstance(value, str | int)))
            if key in keys:
                yield path, f"is of what {keys[key]} is of (remove one)"
            keys.setdefault(key, path)
            for name in cost.__struct_fields__:
                times = getattr(cost, name)
                if isinstance(times, Times):
                    yield from _check_times(f"{path}.{name}", times)
    if profile.wake is not None:
        yield from _check_times("$.wake", profile.wake)
    if profile.power is not None and profile.power.active_w < profile.power.idle_w:
        yield "$.power.active_w", f"{profile.power.active_w:g} W, less than {profile.power.idle_w:g} W when idle"


def _check_times(path: str, times: Times) -> Iterator[Problem]:
    if not all(0 <= each <= 1e12 for each in times.us):
        yield f"{path}.us", "not all are times in µs from 0 to 1e12"
    elif any(after < before for before, after in pairwise(times.us)):
        yield f"{path}.us", "does not ascend (sort it)"
    if times.n < len(times.us):
        yield f"{path}.n", f"{times.n} measurements, fewer than the {len(times.us)} times that stand for them"


def _model(cost: Inference) -> ModelKey:
    return ModelKey(cost.task, cost.size, cost.runtime, cost.quantisation)


def _each_time(profile: Profile, change: Callable[[Times], Times]) -> Profile:
    def changed(cost: Strict) -> Strict:
        times = {name: each for name in cost.__struct_fields__ if isinstance(each := getattr(cost, name), Times)}
        return msgspec.structs.replace(cost, **{name: change(each) for name, each in times.items()})

    fields = ("inference", "training", "messages", "pictures")
    lists = {name: tuple(map(changed, getattr(profile, name))) for name in fields}
    return msgspec.structs.replace(profile, wake=None if profile.wake is None else change(profile.wake), **lists)
