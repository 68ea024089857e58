"""A topology simulated with every sample written down, in that of the two ways which its loads ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgebench.core.device import Moved
from edgebench.core.tallies import Tally
from edgebench.fabric.records import LinkObserved, RoundRecord
from edgebench.results.rundir import records_table
from edgebench.simulation.event_driven import EventDriven
from edgebench.simulation.layout import Layout
from edgebench.simulation.places import Places
from edgebench.simulation.recording import Counts, Records, joined, links_observed, undecided
from edgebench.simulation.stores import Stores
from edgebench.simulation.vectorised import Vectorised
from edgebench.topology.deployment import Deployment


class Simulated:
    """One simulation. Once all `tables` were taken, `tallies` and `links` are as a run would have written them down,
    `overfull` says what it would have dropped, and `silent` which connections it would have lost."""

    def __init__(self, layout: Layout, places: Places, deployment: Deployment) -> None:
        """places: in which each device is told."""
        self._layout = layout
        self._places = places
        self._counts = Counts(layout, places)
        self._stores = Stores(layout)
        self._simulation: EventDriven | Vectorised = (
            EventDriven(layout, deployment) if layout.acts_back else Vectorised(layout, places)
        )

    def tables(self) -> Iterator[Any]:
        """What `records.parquet` holds, in parts.

        Raises EdgebenchError where a service time is needed that is not known.
        """
        if isinstance(self._simulation, EventDriven):
            for records in self._simulation.run():
                self._stores.take_records(records, self._simulation.left_ns)
                yield undecided(records_table(records))
            return
        written = Records(self._layout)
        for rows in joined(self._simulation.run()):
            self._counts.take(rows)
            self._stores.take(rows)
            yield written.table(rows)

    @property
    def tallies(self) -> dict[str, dict[str, Tally]]:
        """Node -> workload -> counts, of those that have any."""
        return self._simulation.tallies if isinstance(self._simulation, EventDriven) else self._counts.tallies()

    @property
    def links(self) -> list[LinkObserved]:
        """What has crossed them."""
        simulation, of = self._simulation, (self._layout, self._places, self._simulation.carried)
        if isinstance(simulation, EventDriven):
            return links_observed(*of, simulation.lost_percent(), simulation.visited())
        return links_observed(*of)

    @property
    def moves(self) -> list[Moved]:
        """Those of devices, as they would have been written down."""
        return self._simulation.moves if isinstance(self._simulation, EventDriven) else []

    @property
    def rounds(self) -> list[RoundRecord]:
        """Those of federations, as they would have been written down."""
        return self._simulation.rounds if isinstance(self._simulation, EventDriven) else []

    @property
    def silent(self) -> list[str]:
        """See `EventDriven.silent`."""
        return self._simulation.silent() if isinstance(self._simulation, EventDriven) else []

    @property
    def overfull(self) -> list[str]:
        """See `Stores.overfull`."""
        return self._stores.overfull()
