"""Arguments that several commands share, and what comes of them."""

from __future__ import annotations

import argparse

import edgebench


def add_file(parser: argparse.ArgumentParser) -> None:
    """A topology, and what to change of it."""
    parser.add_argument(
        "file", metavar="TOPOLOGY", help="a file, a name of those that ship, or an earlier run's directory"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="change a field first, e.g. links[0].latency_ms=5 (repeatable)",
    )


def add_changes(parser: argparse.ArgumentParser) -> None:
    """What is changed most often."""
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the topology's")
    parser.add_argument("--duration-s", type=float, metavar="S", help="instead of the topology's")


def add_placement(parser: argparse.ArgumentParser, *, online: bool = False) -> None:
    """Where its samples are decided. online: that may be left to the run."""
    by_file = "decide samples where this file, which edgebench place has written, says"
    anew = "; online: have edges move workloads to the cloud and back while the run goes on"
    parser.add_argument("--placement", metavar="FILE", help=by_file + anew * online)


def add_calibrate(parser: argparse.ArgumentParser) -> None:
    """What a simulation is calibrated by."""
    parser.add_argument(
        "--calibrate",
        action="append",
        default=[],
        metavar="RUN",
        help="a run directory that says what things take, before the profiles of nodes do (repeatable)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Whether a program reads it."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def loaded(args: argparse.Namespace, placement: str | None = None) -> edgebench.TopologyFile:
    """The topology with what the command line changes of it, and a placement in a file."""
    changed = {name: getattr(args, name, None) for name in ("seed", "duration_s")}
    overrides = [*args.set, *(f"{name}={value}" for name, value in changed.items() if value is not None)]
    return edgebench.load(args.file, overrides, placement=placement)


def as_json(value: object) -> str:
    """One JSON object."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value)).decode()
