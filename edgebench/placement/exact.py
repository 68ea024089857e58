"""The policy `exact`: asks a process of its own, `cp_sat`, which lasts until `end_solver`, or as long as this one."""

from __future__ import annotations

import atexit
import importlib.util
import subprocess
import sys
import threading

import msgspec
import numpy as np

from edgebench.errors import EdgebenchError
from edgebench.fabric.child_process import ChildProcess, describe_end
from edgebench.placement.model import Decision, Orders, Problem


def exact(problem: Problem, rng: np.random.Generator, start: Orders, limit_s: float) -> Decision:
    """The schedule with the smallest weighted sum of response times, or the best that is found within `limit_s`.

    start: where the solver begins, which it is never worse than. No schedule has a smaller sum than the bound. Raises
    EdgebenchError where OR-tools is not installed, or dies.
    """
    if importlib.util.find_spec("ortools") is None:
        need = "needs OR-tools, which is not installed (pip install 'edgebench[place]')"
        raise EdgebenchError(f"--policy exact: {need}")
    question = {"problem": problem, "start": start, "seed": int(rng.integers(2**31)), "limit_s": limit_s}
    return msgspec.json.decode(_SOLVER.ask(msgspec.json.encode(question)), type=Decision)


class _Solver:
    """The process, which is started with the first question, and again after it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None

    def ask(self, question: bytes) -> bytes:
        """The answer to one question after another."""
        with self._lock:
            if self._child is None:
                command = [sys.executable, "-m", "edgebench.placement.cp_sat"]
                self._child = ChildProcess(command, lifeline=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                atexit.register(self.end)
            answer = b""
            try:
                self._child.write_line(question)
                answer = self._child.read_line()
            except BrokenPipeError:
                pass
            finally:
                # Whoever interrupts it would find this answer under the next question.
                status = None if answer else self.end()
            if status is not None:
                raise EdgebenchError(f"--policy exact: OR-tools has ended ({describe_end(status)})")
            return answer

    def end(self) -> int | None:
        """End it; its exit status. None where there is none."""
        atexit.unregister(self.end)
        child, self._child = self._child, None
        return None if child is None else child.end()


_SOLVER = _Solver()


def end_solver() -> None:
    """End the process, if there is one; the next question starts it again."""
    _SOLVER.end()
