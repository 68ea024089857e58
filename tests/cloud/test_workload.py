"""What a workload in the cloud takes in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cloud.workload import CloudWorkload
from edgebench.core.tallies import Tally
from edgebench.fabric import wire
from edgebench.fabric.mqtt import Connection
from edgebench.inference.fake import FakeRuntime
from tests.manifests import manifest
from tests.results import factory


class Unheard:
    """Instead of a connection: what is sent has been sent."""

    def publish(self, _topic: str, _payload: bytes, *, qos: int, waits: bool = False) -> bool:
        return True

    def flush(self) -> None:
        return


def forwarded(seq: int) -> bytes:
    payload = np.zeros(2, np.float32).data.cast("B")
    sample = wire.encode(wire.Sample(wire.VERSION, seq, 0, 1, 2, 3, "float32", (2,), None, payload))
    return wire.encode(wire.Forward(wire.VERSION, "bed-0", 1, 2, memoryview(sample)))


@pytest.mark.parametrize(
    ("how", "rejected"),
    [({"split": 1}, {}), ({"deciders": {"bed-0": "cloud"}, "place": "cloud"}, {"sequence-jump": 1})],
)
def test_a_first_stage_may_drop_as_many_as_it_has_to_and_a_device_has_no_such_gaps(
    how: dict[str, Any], rejected: dict[str, int], tmp_path: Path
) -> None:
    plan, tally = factory.workload(**how), Tally()
    sent = cast("Connection", Unheard())
    workload = CloudWorkload(factory.deployment(plan), plan, tally, sent, lambda _entry: None, tmp_path / "ledger")
    workload.use(FakeRuntime(), manifest())
    for seq in (0, 60_000, 120_000):
        workload.forwarded("ward-0", forwarded(seq))
    assert tally.rejected == rejected
    workload.close()
