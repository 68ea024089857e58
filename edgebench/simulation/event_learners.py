"""Clients of a federation in virtual time: how they are asked, when they learn, and how they answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from edgebench.core.fake_transport import VirtualTime
from edgebench.core.service_times import quantile_ns, sum_ns
from edgebench.fabric.records import ReplyRecord
from edgebench.seeds import rng_for, seed_for
from edgebench.simulation.draws import draw
from edgebench.simulation.event_files import FilesWay, Then
from edgebench.simulation.learning import Learner, Learning, Messages
from edgebench.simulation.service_times import Ints
from edgebench.topology.model import Tier
from edgebench.topology.profiles import TrainingCost

_FAILURE_BYTES = 300
"""Of an answer without a model: why there is none."""


class FileServer:
    """Who serves files: it does one thing after another."""

    def __init__(self, time: VirtualTime) -> None:
        self._time = time
        self._free_ns = 0

    def do(self, takes_ns: int, then: Then) -> None:
        """`then` when it has done something."""
        self._free_ns = max(self._free_ns, self._time.now_ns()) + takes_ns
        self._time.call_at(self._free_ns, then)


class Chance:
    """What is drawn for a client in a round, by its purpose. server: whose client it is."""

    def __init__(self, seed: int, workload: str, server: Tier) -> None:
        self._of = seed, "simulate", "learning", workload, server
        self._streams: dict[str, int] = {}

    def of(self, purpose: str, values: Ints, client: int, number: int) -> int:
        """One of some values, each as likely as any other."""
        if purpose not in self._streams:
            self._streams[purpose] = seed_for(*self._of, purpose)
        return int(values[int(draw(self._streams[purpose], client, number) * len(values))])


class Asked:
    """A message to a client, and what has come of it. number: of the round, and of what is drawn for it. is_wanted:
    somebody waits for its answer."""

    def __init__(self, node: str, number: int, asked_ns: int, answered: Callable[[Asked], None]) -> None:
        self.node = node
        self.number = number
        self.asked_ns = asked_ns
        self.answered = answered
        self.delivered_ns: int | None = None
        self.started_ns: int | None = None
        self.finished_ns: int | None = None
        self.arrived_ns: int | None = None
        self.examples: int | None = None
        self.failure: str | None = None
        self.is_wanted = True
        self.on_given_up: list[Then] = []
        """What else ends when nobody waits for its answer any more."""

    @property
    def is_good(self) -> bool:
        """Whether its answer is there, and a sound one."""
        return self.arrived_ns is not None and self.failure is None

    def record(self, takes: Messages) -> ReplyRecord:
        """As a run writes it down: what a client did of which nothing came, nobody is told."""
        came = self.arrived_ns is not None
        up_bytes = takes.update_bytes if self.is_good else _FAILURE_BYTES
        return ReplyRecord(
            node=self.node,
            asked_ns=self.asked_ns,
            delivered_ns=self.delivered_ns,
            started_ns=self.started_ns if came else None,
            finished_ns=self.finished_ns if came else None,
            arrived_ns=self.arrived_ns,
            bytes_down=0 if self.delivered_ns is None else takes.content_bytes,
            bytes_up=up_bytes if came else 0,
            examples=self.examples if self.is_good else None,
            error=self.failure,
        )


def give_up(asked: Sequence[Asked], why: str) -> None:
    """Wait for none of them any more. None begins where another has ended, as it is not wanted either."""
    open_ones = [each for each in asked if each.is_wanted]
    for each in open_ones:
        each.is_wanted, each.failure = False, why
    for each in open_ones:
        for end in tuple(each.on_given_up):
            end()


class Client(Protocol):
    """Whom a server asks."""

    def ask(self, asked: Asked) -> None:
        """Have it answer, in due time."""
        ...


class LearnerSlots:
    """Where an agent's devices learn: so many at a time, or each by itself."""

    def __init__(self, at_once: int | None) -> None:
        self._free = at_once
        self._waiting: deque[tuple[Asked, Then]] = deque()

    def take(self, asked: Asked, then: Then) -> None:
        """`then` when there is a place."""
        if self._free is None:
            then()
        elif self._free:
            self._free -= 1
            then()
        else:
            self._waiting.append((asked, then))

    def give_back(self) -> None:
        """The next one begins, of those that are still wanted."""
        while self._waiting:
            asked, then = self._waiting.popleft()
            if asked.is_wanted:
                then()
                return
        if self._free is not None:
            self._free += 1


class MessageWay:
    """The way of messages between a server and one of its clients."""

    def __init__(self, files: FilesWay, server: FileServer, takes: Messages, chance: Chance) -> None:
        self._files = files
        self._server = server
        self._takes = takes
        self._chance = chance

    def ask(self, asked: Asked, client: int, then: Then) -> None:
        """Have a message brought to its client. `then` when that has it."""
        time, takes = self._files.time, self._takes
        serve_ns = self._chance.of("serve", takes.serve, client, asked.number)
        fetch_ns = self._chance.of("fetch", takes.fetch, client, asked.number)

        def delivered() -> None:
            asked.delivered_ns = time.now_ns()
            self._files.say()
            then()

        fetched = if_wanted(asked, lambda: time.call_at(time.now_ns() + fetch_ns, if_wanted(asked, delivered)))
        serve = partial(self._server.do, serve_ns)
        fetch = partial(self._files.fetch, takes.content_bytes, serve, fetched, lambda: asked.is_wanted)
        asked.on_given_up.append(self._files.call_off)
        self._files.tell(if_wanted(asked, fetch))

    def answer(self, asked: Asked, client: int) -> None:
        """Bring its answer."""
        time, takes = self._files.time, self._takes
        take_ns = self._chance.of("take", takes.take, client, asked.number)
        hand_in_ns = self._chance.of("hand-in", takes.hand_in, client, asked.number)

        def arrived() -> None:
            asked.arrived_ns = time.now_ns()
            asked.answered(asked)

        taken = if_wanted(asked, lambda: self._server.do(take_ns, if_wanted(asked, arrived)))
        size_bytes = takes.update_bytes if asked.failure is None else _FAILURE_BYTES
        bring = partial(self._files.hand_in, size_bytes, taken, lambda: asked.is_wanted)
        time.call_at(time.now_ns() + hand_in_ns, if_wanted(asked, bring))


def if_wanted(asked: Asked, then: Then) -> Then:
    """Once nobody waits for an answer any more, nothing more is done for it."""
    return lambda: then() if asked.is_wanted else None


class LearningDevice:
    """A client that learns."""

    def __init__(
        self,
        time: VirtualTime,
        way: MessageWay,
        slots: LearnerSlots,
        learner: Learner,
        learning: Learning,
        client: int,
        seed: int,
    ) -> None:
        """client: its number, from 0."""
        self._time = time
        self._way = way
        self._slots = slots
        self._learner = learner
        self._learning = learning
        self._client = client
        self._chance = Chance(seed, learning.workload, "device")
        self._steps = rng_for(seed, "simulate", "steps", learning.workload, str(client))

    def ask(self, asked: Asked) -> None:
        """Ask it to learn."""
        self._way.ask(asked, self._client, partial(self._slots.take, asked, partial(self._begin, asked)))

    def _begin(self, asked: Asked) -> None:
        begin_ns = self._chance.of("begin", self._learner.begin, self._client, asked.number)
        asked.started_ns = self._time.now_ns() + begin_ns
        asked.on_given_up.append(self._slots.give_back)
        over_ns = asked.started_ns + self._takes_ns(asked.number)
        self._time.call_at(over_ns, if_wanted(asked, partial(self._over, asked)))

    def _takes_ns(self, number: int) -> int:
        steps, step = self._learning.steps(self._client), self._learner.first if number == 1 else self._learner.step
        if not isinstance(step, TrainingCost):
            return steps * self._chance.of("learn", step, self._client, number)
        return round(sum_ns(step.step, steps, self._steps) + quantile_ns(step.rest, self._steps.random()))

    def _over(self, asked: Asked) -> None:
        asked.on_given_up.remove(self._slots.give_back)
        self._slots.give_back()
        asked.finished_ns = self._time.now_ns()
        asked.examples = self._learning.samples[self._client]
        self._way.answer(asked, self._client)
