"""The variety that training adds."""

from __future__ import annotations

import numpy as np

from edgebench.seeds import rng_for
from edgebench.tasks.reid.pictures import COLOURINGS, recoloured, varied


def test_a_colouring_is_an_order_of_the_channels() -> None:
    x = np.broadcast_to(np.array([10, 20, 30], np.uint8), (6, 2, 2, 3))
    assert len(set(COLOURINGS)) == 6
    found = recoloured(x, np.arange(6))[:, 0, 1].tolist()
    assert found[0] == [10, 20, 30]
    assert found == [[[10, 20, 30][channel] for channel in order] for order in COLOURINGS]


def test_variety_is_seeded_and_stays_near() -> None:
    x = np.full((200, 96, 48, 3), 120, np.uint8)
    x[:, :48] = 60
    found = varied(x, rng_for(0, "test"))
    assert found.shape == x.shape
    assert found.dtype == np.uint8
    assert np.array_equal(found, varied(x, rng_for(0, "test")))
    assert not np.array_equal(found, varied(x, rng_for(1, "test")))
    # The upper half stays the darker one, whatever light and shift; some have something before it.
    darker = found[:, 8:36].mean(axis=(1, 2, 3)) < found[:, 60:88].mean(axis=(1, 2, 3))
    assert darker.mean() > 0.9
