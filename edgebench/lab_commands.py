"""`edgebench lab` and `edgebench join`."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edgebench
from edgebench.fabric.listening import PORTS

if TYPE_CHECKING:
    from edgebench.lab.messages import MachineInfo

_TOKEN_VARIABLE = "EDGEBENCH_TOKEN"  # noqa: S105  (its name)
_TOKEN_HELP = f"from edgebench lab invite (default: ${_TOKEN_VARIABLE}); not needed to join again"
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_HEADINGS = ("machine", "for", "arch", "cores", "MB", "edgebench", "python", "clock ms", "seen", "runs")


def lab(args: argparse.Namespace) -> int:
    """Serve a lab on this computer, and say who is in it."""
    return int(args.run_lab(args))


def add_lab(parser: argparse.ArgumentParser) -> None:
    """Its own commands."""
    commands: Any = parser.add_subparsers(dest="lab_command", metavar="COMMAND", required=True)
    for name, run, add_arguments in (
        ("serve", _serve, _add_serve),
        ("invite", _invite, _add_invite),
        ("list", _list, _add_list),
        ("remove", _remove, _add_remove),
    ):
        help_line = (run.__doc__ or "").partition("\n")[0]
        added = commands.add_parser(name, help=help_line, description=help_line, allow_abbrev=False)
        add_arguments(added)
        added.set_defaults(run_lab=run)


def join(args: argparse.Namespace) -> int:
    """Make this machine one of a lab's, and work for it until Ctrl-C."""
    token = args.token or os.environ.pop(_TOKEN_VARIABLE, None)
    edgebench.join(
        args.url,
        token,
        name=args.name,
        ports=args.ports,
        sensors=args.sensor,
        token_file=args.token_file,
        meter=args.meter,
        once=args.once,
        install=args.install,
    )
    return 0


def add_join(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("url", metavar="URL", help="where the lab is, as edgebench lab invite prints it")
    parser.add_argument("--token", metavar="T", help=_TOKEN_HELP)
    parser.add_argument("--token-file", metavar="FILE", help="read it there instead, once it is there")
    parser.add_argument("--name", metavar="N", help="what this machine is called there (default: the host's name)")
    first, last = PORTS
    parser.add_argument(
        "--ports",
        type=_port_range,
        default=PORTS,
        metavar="FIRST-LAST",
        help=f"where parts of runs listen here (default: {first}-{last})",
    )
    add_sensor(parser)
    add_meter(parser)
    parser.add_argument("--once", action="store_true", help="work for one run, and end when it is over")
    parser.add_argument("--install", action="store_true", help="join at each start of this machine, by systemd")


def add_sensor(parser: argparse.ArgumentParser) -> None:
    """What nodes read on this machine."""
    parser.add_argument(
        "--sensor",
        action="append",
        default=[],
        metavar="NODE=SENSOR",
        help="what a node, or a group of them, reads here, e.g. door=camera:/dev/video0 (repeatable; docs/sensors.md)",
    )


def add_meter(parser: argparse.ArgumentParser) -> None:
    """What tells the power of this machine."""
    parser.add_argument(
        "--meter", metavar="MODULE:ATTRIBUTE", help="of this machine's power (default: the processor's own)"
    )


def _serve(args: argparse.Namespace) -> int:
    """Serve this computer's lab until Ctrl-C."""
    from edgebench.fabric.logs import log_to_stderr

    log_to_stderr()
    edgebench.lab_serve(listen=args.listen, install=args.install)
    return 0


def _add_serve(parser: argparse.ArgumentParser) -> None:
    where = "default: as before, at first all addresses at port 46900"
    parser.add_argument("--listen", metavar="HOST:PORT", help=f"where machines reach it ({where})")
    parser.add_argument("--install", action="store_true", help="serve it at each start of this computer, by systemd")


def _invite(args: argparse.Namespace) -> int:
    """Print the lines to paste at a board: one to install edgebench there, one to join."""
    import msgspec

    if args.device_only is not None:
        credential = edgebench.lab_invite_device(args.device_only, near=args.near, out=args.out)
        folder = args.out or Path(credential.name)
        print(f"cd {folder}; export XDG_CONFIG_HOME=.")
        print(f"mosquitto_sub -t eb/now/{credential.name}/WORKLOAD/decision &")
        print(f"mosquitto_pub -t eb/now/{credential.name}/WORKLOAD/sample -f sample.json")
        return 0
    invited = edgebench.lab_invite(args.role, for_s=args.for_s)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(invited)).decode())
    else:
        print(f"{invited.install}\n{invited.join}")
    return 0


def _add_invite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--as", dest="role", choices=("edge", "device"), default="any", help="the only tier that it takes part as"
    )
    parser.add_argument(
        "--for", dest="for_s", type=_seconds, default=900.0, metavar="TIME", help="how long the token is good: 15m"
    )
    parser.add_argument("--device-only", metavar="NAME", help="write a credential for a device without Python instead")
    parser.add_argument(
        "--near", metavar="MACHINE", default="here", help="whose broker such a device talks to (default: this computer)"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="where its credential goes (default: its name)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _list(args: argparse.Namespace) -> int:
    """List the machines of the lab: what they are, how their clocks stand, what they run and for whom."""
    import msgspec

    machines, refused = edgebench.lab_list(), edgebench.lab_refusals()
    if args.json:
        print(msgspec.json.format(msgspec.json.encode({"machines": machines, "refused": refused})).decode())
        return 0
    rows = [_HEADINGS, *map(_row, machines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for machine in machines:
        if machine.mend is not None:
            print(f"{machine.name} runs other code than this; on it: {machine.mend} (then join again)")
    for reason, number in refused.items():
        print(f"refused: {reason}: {number:,}")
    return 0


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _remove(args: argparse.Namespace) -> int:
    """End a machine's access to the lab, at once."""
    edgebench.lab_remove(args.name)
    return 0


def _add_remove(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="see edgebench lab list")


def _row(machine: MachineInfo) -> tuple[str, ...]:
    return tuple(_cells(machine))


def _cells(machine: MachineInfo) -> Iterator[str]:
    yield machine.name
    yield "device only" if machine.kind == "device-only" else machine.role
    yield machine.arch
    yield str(machine.cores or "")
    yield f"{machine.memory_mb:,}" if machine.memory_mb else ""
    yield machine.versions.get("edgebench", "") + ("" if machine.same_code or not machine.versions else " (other code)")
    yield machine.versions.get("python", "")
    offset = machine.offset
    yield "" if offset is None else f"{offset.offset_ns / 1e6:+,.3f} ± {offset.bound_ns / 1e6:.3f}"
    if machine.kind == "device-only":
        yield f"near {machine.near}"
    else:
        yield "now" if machine.present else _ago(machine.last_seen_s)
    yield "" if machine.holder is None else f"{machine.holder.run_id} ({machine.holder.purpose})"


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    unit, length_s = next((each for each in reversed(_UNITS_S.items()) if seconds >= each[1]), ("s", 1.0))
    return f"{seconds / length_s:.0f} {unit} ago"


def _port_range(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    first, last = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < first <= last < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r}: no range of ports (write {PORTS[0]}-{PORTS[1]})")
    return first, last


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: no time (write 90s, 15m, 2h or 1d)")
    return int(found[1]) * _UNITS_S[found[2]]
