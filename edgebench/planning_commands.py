"""`edgebench place` and `edgebench capacity`: where work should run, and how much of it there may be."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, get_args

import edgebench
from edgebench.arguments import (
    add_calibrate,
    add_changes,
    add_file,
    add_json,
    add_placement,
    as_json,
    loaded,
    number,
    whole,
)
from edgebench.errors import EXIT_INVALID_RUN, EdgebenchError
from edgebench.results.capacities import By


def place(args: argparse.Namespace) -> int:
    """Place jobs, or the stages of workloads, on devices, edges and the cloud by a policy, and say what comes of it."""
    from edgebench.placement import files, placed, stream_placed
    from edgebench.placement.placed import Placement

    topology = loaded(args)
    if args.placement is not None and args.seed is not None and topology.topology.jobs:
        raise EdgebenchError(
            "--seed: what an earlier placement of jobs has decided is not left to chance (leave it out)"
        )
    found = edgebench.place(
        topology,
        args.policy,
        placement=args.placement,
        limit_s=args.limit_s,
        objective=args.objective,
        at_most=args.at_most,
        calibrate=args.calibrate,
        by=args.by,
        out=args.out,
        progress=True,
    )
    if args.json:
        sys.stdout.write(files.written(found))
    else:
        print("\n".join(placed.shown(found) if isinstance(found, Placement) else stream_placed.shown(found)))
    return 0


def add_place(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add_file(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--policy",
        metavar="P",
        help="all-device, all-edge, all-cloud, best-layer, greedy, tabu, exact, random, or your own module:function",
    )
    what.add_argument("--placement", metavar="FILE", help="where an earlier one, written by --out, has them")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the placement, as JSON")
    add_changes(parser)
    parser.add_argument("--limit-s", type=number, metavar="S", help="how long exact seeks at most (60)")
    more: dict[str, Any] = {"action": "append", "default": []}
    parser.add_argument(
        "--objective",
        metavar="TERM[=WEIGHT]",
        help="of workloads: mean-ms (default), p99-ms, late-percent, bytes or energy-mj; repeated, their weighted sum",
        **more,
    )
    parser.add_argument(
        "--by",
        choices=("group", "site"),
        help="of workloads: what is placed alike, the devices of a group (default), or those of it at one site",
    )
    parser.add_argument(
        "--at-most", metavar="TERM=LIMIT", help="of workloads: a limit to one of these (repeatable)", **more
    )
    add_calibrate(parser)
    add_json(parser)


def capacity(args: argparse.Namespace) -> int:
    """Seek the largest load at which a workload keeps its deadline, in virtual time or by real runs."""
    from edgebench.report.capacity_view import print_capacity

    found = edgebench.capacity(
        loaded(args, args.placement),
        args.workload,
        p99_ms=args.p99_ms,
        by=args.by,
        seeds=args.seeds,
        within_percent=args.within_percent,
        most=args.most,
        executor=args.executor,
        calibrate=args.calibrate,
        out=args.out,
        resume=args.resume,
        progress=True,
    )
    if args.json:
        print(as_json(found))
    else:
        print_capacity(found)
        print(found.folder)
    return 0 if found.limit is not None and found.ended is None else EXIT_INVALID_RUN


def add_capacity(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add_file(parser)
    parser.add_argument("--workload", metavar="W", help="that is to keep a bound (none: the only one there is)")
    parser.add_argument("--p99-ms", type=number, metavar="X", help="the bound of its p99 (none: its deadline)")
    parser.add_argument(
        "--by",
        choices=get_args(By),
        default="devices",
        help="what is varied: the number of its devices, or the rate of each",
    )
    parser.add_argument("--seeds", type=whole, default=3, metavar="N", help="runs at each load (3)")
    parser.add_argument(
        "--within-percent", type=number, default=2.0, metavar="P", help="how near the next step up is to be (2)"
    )
    parser.add_argument("--most", type=number, metavar="LOAD", help="that is tried (1,024 times the topology's own)")
    parser.add_argument(
        "--executor", default="simulate", metavar="E", help="of its runs: simulate (default), local, lab, containers"
    )
    add_placement(parser)
    add_calibrate(parser)
    add_changes(parser)
    parser.add_argument("--out", default="capacities", metavar="DIR", help="where the folder of all runs goes")
    parser.add_argument("--resume", metavar="DIR", help="go on in that folder, of a search that was ended")
    add_json(parser)
