"""The command line: one function a command. Results go to stdout, all else to stderr."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import edgebench
from edgebench.clock import now_ns
from edgebench.errors import EXIT_USER_ERROR, EdgebenchError

_EXIT_INTERRUPTED = 130
_STARTED_NS = now_ns()
_LAB_PACKAGES = (
    *(
        "aiohttp",
        "av",
        "duckdb",
        "flatbuffers",
        "flwr",
        "jinja2",
        "keras",
        "nats_server",
        "plotly",
        "psutil",
        "pyarrow",
        "rich",
    ),
    *("scipy", "sklearn", "soundfile", "tensorflow"),
)
"""Modules that a base install lacks."""
_SIZES = ("light", "heavy", "published")


def validate(args: argparse.Namespace) -> int:
    """Check a topology and print what it describes."""
    import msgspec

    from edgebench import tasks
    from edgebench.experiments.deployment_checks import check_deployment
    from edgebench.topology import check, load, refuse_unenforceable, resolve

    topology = load(args.file, args.set)
    check(topology, args.file, tasks=tasks.names())
    refuse_unenforceable(topology, args.file, executor=args.executor)
    deployment = resolve(topology, run_id="validate", executor=args.executor)
    check_deployment(deployment, args.file)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(deployment)).decode())
        return 0
    run = f"{topology.duration_s:g} s on the {args.executor} executor, seed {topology.seed}"
    print(f"{args.file}: valid, {run}")
    counts = ", ".join(f"{len(deployment.of_tier(tier))} {tier}" for tier in ("cloud", "edge", "device"))
    shaped = sum(link.shaped for link in deployment.links.values())
    print(f"  nodes      {counts}")
    print(f"  links      {len(deployment.links)}, {shaped} of them shaped")
    for workload in deployment.workloads.values():
        deciders = len(set(workload.deciders.values()))
        where = f"{len(workload.sources)} devices, decided on {deciders} {workload.place} node{'s' * (deciders != 1)}"
        print(f"  workload   {workload.name}: {workload.task}, {where}")
    for name, joint in deployment.joint.items():
        print(f"  joint      {name}: of {', '.join(joint.of)}")
    for move in deployment.moves:
        print(f"  move       {move.node} to {move.to} at {move.at_s:g} s")
    for name, plan in deployment.federated.items():
        how = plan.how
        what = f"app {how.app}" if how.app is not None else f"{how.rounds} rounds of {how.strategy.name}"
        print(f"  federated  {name}: {what}, {len(plan.clients)} devices, engine {how.engine}")
    return 0


def _add_validate(parser: argparse.ArgumentParser) -> None:
    _add_topology(parser)
    parser.add_argument("--json", action="store_true", help="print the deployment that the topology resolves to")


def schema(_: argparse.Namespace) -> int:
    """Print the JSON Schema of topology files, for editors."""
    import msgspec

    from edgebench.topology import json_schema

    print(msgspec.json.format(msgspec.json.encode(json_schema())).decode())
    return 0


def _add_nothing(_: argparse.ArgumentParser) -> None:
    """A command without arguments."""


def _add_topology(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the topology")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="change a field first, e.g. links[0].latency_ms=5 (repeatable)",
    )
    parser.add_argument("--executor", default="local", metavar="E", help="what runs it (default: local)")


class Command(NamedTuple):
    """A command: what runs it, the first line of whose docstring is its help, and what adds its arguments."""

    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None]


def run(args: argparse.Namespace) -> int:
    """Run a topology, and say whether its figures can be trusted."""
    from edgebench.experiments.run import run_topology

    _check_folder("--out", Path(args.out))
    if args.registry is not None:
        _check_folder("--registry", Path(args.registry))
    return run_topology(args, _STARTED_NS)


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_topology(parser)
    parser.add_argument("--out", default="runs", metavar="DIR", help="where run directories go (default: runs)")
    parser.add_argument("--data", metavar="DIR", help="real data; without it the streams are generated")
    parser.add_argument("--registry", metavar="DIR", help="the model registry (default: OUT/registry)")
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the topology's")
    parser.add_argument("--duration-s", type=float, metavar="S", help="instead of the topology's")
    parser.add_argument("--broker", metavar="URL", help="one external broker: mqtt://[user:password@]host[:port]")
    parser.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with the federated rounds of this run directory"
    )
    parser.add_argument("--json", action="store_true", help="print result.json")


def report(args: argparse.Namespace) -> int:
    """Rebuild result.json and report.html of a run from its records."""
    from edgebench.report.page import report_command

    return report_command(Path(args.run_dir), args.json)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="a run directory")
    parser.add_argument("--json", action="store_true", help="print result.json")


def train(args: argparse.Namespace) -> int:
    """Train a task's models, score them beside a classical baseline, export and keep them."""
    from edgebench.experiments.train import run as run_training

    # Training takes minutes; whether its result can be kept is known now.
    if args.out is not None:
        _check_file("--out", args.out)
    if args.registry is not None:
        _check_folder("--registry", args.registry)
    return run_training(args)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="a built-in task, or module:attribute")
    parser.add_argument("--data", metavar="DIR", type=Path, help="the data set's folder (none: generated data)")
    parser.add_argument("--seeds", metavar="N", type=int, default=3, help="train each model from N seeds (3)")
    parser.add_argument("--size", choices=_SIZES, help="train this size only (light and heavy)")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="write the model (the light one of several) here, and FILE.json"
    )
    parser.add_argument("--registry", metavar="DIR", type=Path, help="put each size's model into this registry")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def list_tasks(args: argparse.Namespace) -> int:
    """List the built-in tasks: their models, and the data that they can be learned from."""
    import msgspec

    from edgebench.experiments.listing import TaskListed, listed

    found = listed(args.data)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return 0

    def lines(task: TaskListed) -> Iterator[str]:
        yield f"{task.name}  ({task.scenario}, {task.metric})"
        for size, model in task.models.items():
            parameters = "" if model.parameters is None else f"{model.parameters:,}"
            yield f"  {size:10}{parameters:>12}  {model.architecture}"
        yield "  data      generated, or"
        for source in task.sources:
            state = f"found at {source.found}" if source.found is not None else f"get {source.how_to_get}"
            yield f"            {source.name}: {state}"

    print("\n\n".join("\n".join(lines(task)) for task in found))
    return 0


def _add_tasks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", type=Path, help="say which data sets are in this folder")
    _add_json(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _check_file(option: str, path: Path) -> None:
    if path.is_dir():
        raise EdgebenchError(f"{option} {path}: is a folder (name a file)")
    if not path.parent.is_dir():
        raise EdgebenchError(f"{option} {path}: no folder {path.parent} (make it first)")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise EdgebenchError(f"{option} {path}: may not be written (name another)")


def _check_folder(option: str, path: Path) -> None:
    """A folder that is there, or that can be made, and that may be written to. Raises EdgebenchError."""
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not there.is_dir():
        named = "is a file" if there == path else f"{there} is a file"
        raise EdgebenchError(f"{option} {path}: {named} (name a folder)")
    if not os.access(there, os.W_OK | os.X_OK):
        raise EdgebenchError(f"{option} {path}: {there} may not be written to (name another folder)")


# Commands import what they need when they run: `validate` starts fast, and on a machine without the lab's packages.
COMMANDS = {
    "validate": Command(validate, _add_validate),
    "schema": Command(schema, _add_nothing),
    "tasks": Command(list_tasks, _add_tasks),
    "run": Command(run, _add_run),
    "report": Command(report, _add_report),
    "train": Command(train, _add_train),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit status is returned.

    0: done; 1: an invalid run; 2: a user's mistake, one line each on stderr; 130: Ctrl-C.
    """
    try:
        args = _parser().parse_args(argv)
    except SystemExit as finished:  # argparse has said what is to be said
        return finished.code if isinstance(finished.code, int) else EXIT_USER_ERROR
    try:
        status = COMMANDS[args.command].run(args)
        sys.stdout.flush()
    except EdgebenchError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout has gone (`| head`): no one is left to tell, and Python must not try at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"edgebench {args.command}: {where}{error.strerror or error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _LAB_PACKAGES:
            raise
        mend = "pip install 'edgebench[lab]'"
        print(f"edgebench {args.command}: needs the lab packages, {package} is absent: {mend}", file=sys.stderr)
        return EXIT_USER_ERROR
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgebench", description="An open edge-to-cloud federated AI testbed.")
    parser.add_argument("--version", action="version", version=f"edgebench {edgebench.__version__}")
    commands: Any = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        help_line = (command.run.__doc__ or "").partition("\n")[0]
        command.add_arguments(commands.add_parser(name, help=help_line, description=help_line, allow_abbrev=False))
    return parser


if __name__ == "__main__":
    sys.exit(main())
