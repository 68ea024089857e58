"""The executors: a plan of a run's parts, and the machines on which it is carried out."""

from __future__ import annotations

import contextlib

from edgebench.executors.fleet import Fleet, FleetOptions, OpenFleet, only_here


def _lab(options: FleetOptions) -> contextlib.AbstractContextManager[Fleet]:
    from edgebench.executors.lab_fleet import lab_fleet  # a board does without the server of a lab

    return lab_fleet(options)


def _containers(options: FleetOptions) -> contextlib.AbstractContextManager[Fleet]:
    if options.tokens is not None:
        from edgebench.executors.awaited_fleet import awaited_fleet

        return awaited_fleet(options)
    from edgebench.executors.container_fleet import container_fleet

    return container_fleet(options)


EXECUTORS: dict[str, OpenFleet] = {"local": only_here, "lab": _lab, "containers": _containers}
"""By the name that topologies and results call them; they differ in their machines only. What each enforces:
`edgebench.topology.enforceable`."""
