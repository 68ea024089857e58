"""`edgebench place`: jobs, or the stages of stream workloads, are placed by a policy, or as an earlier placement has
them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from edgebench.errors import EdgebenchError
from edgebench.experiments.given import TopologyFile
from edgebench.experiments.places import check_file
from edgebench.experiments.placing import place_jobs
from edgebench.experiments.placing_streams import place_streams
from edgebench.placement.files import written
from edgebench.placement.objectives import weights_of
from edgebench.placement.placed import Placement
from edgebench.placement.stream_placed import StreamPlacement
from edgebench.tasks import names
from edgebench.topology import check
from edgebench.topology.wording import did_you_mean

LIMIT_S = 60.0
_OF_STREAMS = ("objective", "at_most", "calibrate", "by")
By = Literal["group", "site"]
"""What is placed alike: all devices of a group, or those of it at one site."""


@dataclass(frozen=True, kw_only=True)
class PlaceOptions:
    """Either a policy by its name, or a placement that was made before, is applied.

    limit_s: how long `exact` may seek at most (None: 60 s). out: the file of the placement. For workloads: objective:
    `TERM` or `TERM=WEIGHT` (none: that of the earlier placement, or mean-ms); at_most: `TERM=LIMIT` (likewise);
    calibrate: run directories that say what things take; by: what is placed alike (None: `group`).
    """

    policy: str | None = None
    placement: Path | None = None
    limit_s: float | None = None
    out: Path | None = None
    objective: tuple[str, ...] = ()
    at_most: tuple[str, ...] = ()
    calibrate: tuple[Path, ...] = ()
    by: By | None = None
    tell: Callable[[str], None] = lambda _: None


def place(given: TopologyFile, options: PlaceOptions) -> Placement | StreamPlacement:
    """Place what a topology has. Raises EdgebenchError."""
    limit_s = _checked_limit(options)
    if options.out is not None:
        check_file("--out", options.out)
    check(given.topology, given.path, tasks=names())
    placement: Placement | StreamPlacement
    if given.topology.jobs:
        for name in _OF_STREAMS:
            if getattr(options, name):
                raise EdgebenchError(f"--{name.replace('_', '-')}: is for workloads, not for jobs (leave it out)")
        placement = place_jobs(given, options.policy, options.placement, limit_s)
    else:
        placement = place_streams(
            given,
            options.policy,
            options.placement,
            limit_s,
            weights_of("--objective", options.objective, plain=1.0) if options.objective else None,
            weights_of("--at-most", options.at_most, plain=None) if options.at_most else None,
            options.calibrate,
            options.tell,
            by_site=options.by == "site",
        )
    if options.out is not None:
        options.out.write_text(written(placement), "utf-8")
    return placement


def _checked_limit(options: PlaceOptions) -> float:
    if (options.policy is None) == (options.placement is None):
        raise EdgebenchError("--policy, --placement: give one of the two")
    if options.by not in (None, *get_args(By)):
        raise EdgebenchError(f"--by {options.by}: is nothing to place by{did_you_mean(str(options.by), get_args(By))}")
    if options.placement is not None and options.by is not None:
        raise EdgebenchError("--by: an earlier placement says itself what it has placed alike (leave it out)")
    if options.limit_s is None:
        return LIMIT_S
    if options.policy != "exact":
        raise EdgebenchError("--limit-s: only --policy exact seeks until then (leave it out)")
    if not (math.isfinite(options.limit_s) and options.limit_s > 0):
        raise EdgebenchError(f"--limit-s {options.limit_s:g}: is no time (give seconds, more than 0)")
    return options.limit_s
