"""What a placement of stream workloads is good for: figures of a run by name, a weighted sum of them, and limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from edgebench.errors import EdgebenchError
from edgebench.placement.stream_model import Score
from edgebench.results.figures import Result
from edgebench.results.sample_figures import Latency
from edgebench.topology.wording import did_you_mean

Weights = Mapping[str, float]
"""Term -> by how much it counts, or its limit."""


def _latency(of: Callable[[Latency], float]) -> Callable[[Result], float | None]:
    def mean(result: Result) -> float | None:
        known = [(each.decided, of(each.latency_ms)) for each in result.workloads.values() if each.latency_ms]
        decided = sum(n for n, _ in known)
        return sum(n * value for n, value in known) / decided if decided else None

    return mean


def _late_percent(result: Result) -> float | None:
    scheduled = _scheduled(result)
    if any(each.deadline_ms is None for each in result.workloads.values()):
        return None
    late = sum(each.late + each.lost for each in result.workloads.values())
    joint = [each for each in result.joint.values() if each.deadline_ms is not None]
    late += sum(each.late + each.frames - each.decided for each in joint)
    due = scheduled + sum(each.frames for each in joint)
    return 100 * late / due if due else None


def _bytes(result: Result) -> float | None:
    known = [link.bytes for link in result.links.values() if link.bytes is not None]
    return sum(known) / _scheduled(result) if known and _scheduled(result) else None


def _energy_mj(result: Result) -> float | None:
    nodes = [None if each.energy is None else each.energy.work_j for each in result.nodes.values()]
    links = [None if each.energy is None else each.energy.up_j + each.energy.down_j for each in result.links.values()]
    known = [each for each in (*nodes, *links) if each is not None]
    scheduled = _scheduled(result)
    return 1e3 * sum(known) / scheduled if scheduled and len(known) == len(nodes) + len(links) else None


LATE_PERCENT, ENERGY_MJ = "late-percent", "energy-mj"
MEAN: Weights = {"mean-ms": 1.0}
"""The objective where none is given."""
TERMS: dict[str, Callable[[Result], float | None]] = {
    "mean-ms": _latency(lambda latency: latency.mean),
    "p99-ms": _latency(lambda latency: latency.p99),
    LATE_PERCENT: _late_percent,
    "bytes": _bytes,
    ENERGY_MJ: _energy_mj,
}
"""Name -> the figure of a run. Latencies are the means over workloads, by their decided samples; late are samples after
the deadline, and lost ones, where all workloads have one, and with them joint decisions that have one; bytes, of all
links together, are those of a sample, as is the energy of all links and nodes, beyond what these draw when idle, where
it is known of all."""


def weights_of(option: str, given: Sequence[str], *, plain: float | None) -> dict[str, float]:
    """`TERM` or `TERM=NUMBER`, as options have them. plain: the number where there is none (None: there has to be one).

    Raises EdgebenchError.
    """
    found: dict[str, float] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if name not in TERMS:
            raise EdgebenchError(f"{option} {each}: no such figure{did_you_mean(name, TERMS)}")
        if name in found:
            raise EdgebenchError(f"{option} {each}: is given twice (leave one out)")
        found[name] = _number(option, each, text) if equals or plain is None else plain
    return found


def _number(option: str, each: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise EdgebenchError(f"{option} {each}: gives no number (write, for example, mean-ms=2.5, more than 0)")
    return number


def terms_of(result: Result) -> dict[str, float | None]:
    """All figures of a run that can be an objective; None where there is none."""
    return {name: figure(result) for name, figure in TERMS.items()}


def score_of(result: Result, objective: Weights, at_most: Weights) -> Score:
    """How good a placement is that led to these figures."""
    values = terms_of(result)
    lost = sum(each.lost for each in result.workloads.values()) / max(1, _scheduled(result))
    over = sum(max(0.0, _known(values[name]) / limit - 1) for name, limit in at_most.items())
    return Score(lost, over, value_of(values, objective))


def value_of(values: Mapping[str, float | None], objective: Weights) -> float:
    """The weighted sum; infinite where nothing was decided."""
    return sum(weight * _known(values[name]) for name, weight in objective.items())


def _known(value: float | None) -> float:
    return math.inf if value is None else value


def _scheduled(result: Result) -> int:
    return sum(each.scheduled for each in result.workloads.values())


def told(weights: Weights) -> str:
    """In a line."""
    parts: Iterable[str] = (name if weight == 1 else f"{weight:g} × {name}" for name, weight in weights.items())
    return " + ".join(parts)
