"""Arguments that several commands share, and what comes of them."""

from __future__ import annotations

import argparse
import math
from typing import NoReturn

import edgebench
from edgebench.errors import EXIT_USER_ERROR


class OneLineParser(argparse.ArgumentParser):
    """Says in one line what is wrong with a command line, and where to read what there is."""

    def error(self, message: str) -> NoReturn:
        """See `ArgumentParser.error`."""
        what = message.removeprefix("argument ")
        mend = "" if what.endswith(")") else f" ({self.prog} -h tells what there is)"
        self.exit(EXIT_USER_ERROR, f"{self.prog}: {what}{mend}\n")


def whole(text: str) -> int:
    """The type of an argument. Raises ArgumentTypeError."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def number(text: str) -> float:
    """The type of an argument. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}")
    return value


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
    parser.add_argument("--seed", type=whole, metavar="N", help="instead of the topology's")
    parser.add_argument("--duration-s", type=number, metavar="S", help="instead of the topology's")


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
