"""The bridge to Flower: its strategies, its apps, its engines. Flower is imported in this package only.

messages: between Flower's messages and parcels. grid: Flower's `Grid` over the network, and in one process. observed:
the grid that every engine's is wrapped in: seeds, order, checks, figures. journal, replay: going on after a crash.
strategies, built_in, buffered: the app that comes with edgebench. apps, app_metrics: any other. events: what is told of
rounds.

engine_job, engine_grid, clients: a federation for one of Flower's own engines, which are simulation (Ray) and superlink
(with keys, entry and remote_listener).
"""

from __future__ import annotations

import os

# Flower reports each start to its makers unless told not to, and reads this when it is imported.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
