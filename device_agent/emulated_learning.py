"""Federated learning on devices that are emulated: replies are held until their machines would have learned."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from device_agent.learner_process import LearnerRequest
from edgebench.core.emulation import Machine
from edgebench.federated.content import restamp
from edgebench.federated.message_client import Received
from edgebench.topology.profiles import TrainingCost

Answer = Callable[[LearnerRequest, Path], None]


class _Learning:
    """One request. reply: once the real work is done; finished: when the emulated machine began and ended, ns."""

    def __init__(self, machine: Machine, received_ns: int) -> None:
        self.machine = machine
        self.received_ns = received_ns
        self.wanted = True
        self.reply: tuple[LearnerRequest, Path] | None = None
        self.learned_ns: tuple[int, int] | None = None

    def drop(self) -> None:
        """Nobody wants it any more."""
        self.wanted = False
        if self.reply is not None:
            _, reply = self.reply
            reply.unlink(missing_ok=True)


class EmulatedLearning:
    """All requests to the emulated devices of an agent; called in the reactor's thread."""

    def __init__(self, answer: Answer) -> None:
        """answer: with a reply, when its time has come."""
        self._answer = answer
        self._going_on: dict[str, _Learning] = {}

    def begin(self, machine: Machine, request: Received, cost: TrainingCost, steps: int) -> None:
        """A device has a request: it will take so many steps on its machine."""
        learning = self._going_on[request.message_id] = _Learning(machine, request.received_ns)
        machine.learns(cost, steps, lambda: learning.wanted, partial(self._over, learning))

    def done(self, request: LearnerRequest, reply: Path) -> bool:
        """The real work is done; False where that is all, since nothing is emulated."""
        learning = self._going_on.get(request.received.message_id)
        if learning is None:
            return False
        learning.reply = request, reply
        if learning.learned_ns is not None:
            learning.machine.releases.unready += 1
            self._release(learning)
        return True

    def cancel(self, received: Received) -> None:
        """Nobody wants the reply any more."""
        learning = self._going_on.pop(received.message_id, None)
        if learning is not None:
            learning.drop()

    def close(self) -> None:
        """Nobody wants any reply any more."""
        for learning in self._going_on.values():
            learning.drop()
        self._going_on.clear()

    def _over(self, learning: _Learning, started_ns: int, finished_ns: int) -> None:
        if learning.wanted:
            learning.learned_ns = started_ns, finished_ns
            if learning.reply is not None:
                self._release(learning)

    def _release(self, learning: _Learning) -> None:
        assert learning.reply is not None
        assert learning.learned_ns is not None
        request, reply = learning.reply
        started_ns, finished_ns = learning.learned_ns
        del self._going_on[request.received.message_id]
        learning.machine.released(learning.received_ns, finished_ns)
        restamp(reply, {"started_ns": started_ns, "finished_ns": finished_ns})
        self._answer(request, reply)
