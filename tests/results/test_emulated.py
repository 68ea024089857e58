"""Whether this machine kept up with the nodes that it emulated."""

from __future__ import annotations

import msgspec
import pytest

from edgebench.results.emulated import of_emulation
from edgebench.results.figures import EmulationFigures, NodeFigures


def nodes(*late: int, released: int = 650, slip_ms: float = 0.1) -> dict[str, NodeFigures]:
    """Nodes of which each released so many too late."""
    found = EmulationFigures(
        by="measured",
        source="made up",
        released=released,
        mean_took_ms=10.0,
        mean_slip_ms=slip_ms,
        most_slip_ms=5.0,
        late=0,
        unready=0,
        beyond=0,
    )
    return {
        f"bed-{number}": NodeFigures(
            "device", "pi", None, None, None, None, 0, "here", emulated=msgspec.structs.replace(found, late=each)
        )
        for number, each in enumerate(late)
    }


def test_a_node_alone_may_be_late_with_one_in_a_hundred() -> None:
    assert list(of_emulation(nodes(6), {})) == []
    (reason,) = of_emulation(nodes(7), {})
    assert reason.startswith("bed-0, emulated as 'pi', released 7 of 650 too late")


def test_of_many_nodes_some_have_bad_luck() -> None:
    assert list(of_emulation(nodes(*[4] * 90, *[9] * 10), {})) == []


def test_one_of_many_that_is_worse_than_luck_is_named() -> None:
    (reason,) = of_emulation(nodes(*[2] * 99, 25), {})
    assert reason.startswith("bed-99, emulated as 'pi', released 25 of 650 too late")


def test_many_are_judged_together() -> None:
    (reason,) = of_emulation(nodes(*[7] * 100), {})
    assert reason.startswith("100 nodes, emulated as 'pi', released 700 of 65,000 too late")


@pytest.mark.parametrize(("slip_ms", "named"), [(0.2, 0), (0.21, 1)])
def test_a_node_may_be_late_by_a_fiftieth_of_what_it_takes_on_average(slip_ms: float, named: int) -> None:
    assert len(list(of_emulation(nodes(0, slip_ms=slip_ms), {}))) == named


@pytest.mark.parametrize(("latency_ms", "named"), [(200.0, 0), (199.0, 1)])
def test_what_hardly_delays_a_decision_may_be_late_by_more_of_a_short_step(latency_ms: float, named: int) -> None:
    assert len(list(of_emulation(nodes(0, slip_ms=1.0), {"bed-0": latency_ms}))) == named


def test_what_is_larger_than_a_profile_knows_is_told_with_the_size_to_measure() -> None:
    (node,) = nodes(0).values()
    assert node.emulated is not None
    beyond = msgspec.structs.replace(node.emulated, beyond=3, largest_bytes=112_960)
    (reason,) = of_emulation({"bed-0": msgspec.structs.replace(node, emulated=beyond)}, {})
    assert reason.endswith("measure larger ones: edgebench profile --message-bytes 112960")


def test_a_node_is_judged_by_what_passes_it() -> None:
    (reason,) = of_emulation(nodes(0, 0, slip_ms=1.0), {"bed-0": 199.0, "bed-1": 4_000.0})
    assert reason.startswith("bed-0, emulated as 'pi', was 1 ms late on average")
    assert "least mean latency of what passes it, 49.8 ms" in reason
