"""The command line: one function a command. Results go to stdout, all else to stderr."""

from __future__ import annotations

import argparse
import codecs
import locale
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import edgebench
from edgebench import comparing_commands, lab_commands, planning_commands
from edgebench.arguments import (
    OneLineParser,
    add_calibrate,
    add_changes,
    add_file,
    add_json,
    add_placement,
    loaded,
    whole,
)
from edgebench.clock import now_ns
from edgebench.errors import EXIT_INVALID_RUN, EXIT_USER_ERROR, EdgebenchError
from edgebench.experiments.places import room_in

_EXIT_INTERRUPTED = 130
_STARTED_NS = now_ns()
_LAB_PACKAGES = (
    *(
        "av",
        "docker",
        "duckdb",
        "flatbuffers",
        "flwr",
        "jinja2",
        "keras",
        "nats_server",
        "numba",
        "plotly",
        "pyarrow",
        "rapidfuzz",
        "rich",
    ),
    *("scipy", "sklearn", "soundfile", "tensorflow"),
)
"""Modules that a base install lacks."""
_SIZES = ("light", "heavy", "published")


def validate(args: argparse.Namespace) -> int:
    """Check a topology and print what it describes."""
    import msgspec

    topology = edgebench.load(args.file, args.set)
    deployment = edgebench.validate(topology, executor=args.executor)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(deployment)).decode())
        return 0
    run = f"{deployment.duration_s:g} s on the {args.executor} executor, seed {deployment.seed}"
    print(f"{args.file}: valid, {run}")
    counts = ", ".join(f"{len(deployment.of_tier(tier))} {tier}" for tier in ("cloud", "edge", "device"))
    shaped = sum(link.shaped for link in deployment.links.values())
    print(f"  nodes      {counts}")
    print(f"  links      {len(deployment.links)}, {shaped} of them shaped")
    for workload in deployment.workloads.values():
        deciders = len(set(workload.deciders.values()))
        where = f"decided on {deciders} {workload.place} node{'s' * (deciders != 1)}"
        if workload.is_chain:
            first = "on each device" if workload.head_on_device else f"on {deciders} edge node{'s' * (deciders != 1)}"
            where = f"decided {first}, then by the {workload.tail_tier}"
        if workload.online is not None:
            where = (
                f"decided by {deciders} edge{'s' * (deciders != 1)} or the cloud, by the {workload.online.begins} first"
            )
        print(f"  workload   {workload.name}: {workload.task}, {len(workload.sources)} devices, {where}")
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

    print(msgspec.json.format(msgspec.json.encode(edgebench.schema())).decode())
    return 0


def _add_nothing(_: argparse.ArgumentParser) -> None:
    """A command without arguments."""


def _add_topology(parser: argparse.ArgumentParser) -> None:
    add_file(parser)
    parser.add_argument(
        "--executor", default="local", metavar="E", help="what runs it: local (default), lab, containers"
    )


class Command(NamedTuple):
    """A command: what runs it, the first line of whose docstring is its help, and what adds its arguments."""

    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None]


def run(args: argparse.Namespace) -> int:
    """Run a topology, and say whether its figures can be trusted."""
    done = edgebench.run(
        loaded(args, args.placement),
        out=args.out,
        executor=args.executor,
        data=args.data,
        registry=args.registry,
        broker=args.broker,
        resume=args.resume,
        retrain=args.retrain,
        wait=args.wait,
        sensors=args.sensor,
        base_image=args.base_image,
        tokens=args.tokens,
        meter=args.meter,
        progress=True,
        asked_ns=_STARTED_NS,
    )
    return _print_run(done, args.json)


def _print_run(done: edgebench.Run, as_json: bool) -> int:
    """Print `result.json`, or a table and where the report is. Exit status 0 for a valid run, 1 for an invalid one."""
    from edgebench.report.page import print_summary
    from edgebench.results.rundir import RESULT

    if as_json:
        sys.stdout.write((done.folder / RESULT).read_text("utf-8"))
    else:
        print_summary(done.figures)
        sys.stdout.write(f"{done.report}\n")
    return 0 if done.verdict.valid else EXIT_INVALID_RUN


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_topology(parser)
    _add_out(parser)
    add_changes(parser)
    add_placement(parser, online=True)
    parser.add_argument("--data", metavar="DIR", help="real data; without it the streams are generated")
    parser.add_argument("--registry", metavar="DIR", help="the model registry (default: OUT/registry)")
    parser.add_argument("--broker", metavar="URL", help="one external broker: mqtt[s]://[user:password@]host[:port]")
    parser.add_argument("--wait", action="store_true", help="wait for machines of the lab that serve another run")
    lab_commands.add_sensor(parser)
    lab_commands.add_meter(parser)
    parser.add_argument(
        "--base-image", metavar="IMAGE", help="what containers are made on (default: Python's slim one)"
    )
    parser.add_argument(
        "--tokens", metavar="DIR", help="others start the containers: lay their tokens here, DIR/CONTAINER/token"
    )
    parser.add_argument("--retrain", action="store_true", help="train first models anew, whatever is remembered")
    parser.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with the federated rounds of this run directory"
    )
    parser.add_argument("--json", action="store_true", help="print result.json")


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="runs", metavar="DIR", help="where run directories go (default: runs)")


def simulate(args: argparse.Namespace) -> int:
    """Simulate a topology in virtual time, with what things took in a run."""
    topology = loaded(args, args.placement)
    return _print_run(edgebench.simulate(topology, calibrate=args.calibrate, out=args.out), args.json)


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    add_file(parser)
    add_placement(parser)
    add_calibrate(parser)
    _add_out(parser)
    add_changes(parser)
    parser.add_argument("--json", action="store_true", help="print result.json")


def fidelity(args: argparse.Namespace) -> int:
    """Predict runs from others, and say how far that is from what was measured."""
    import msgspec

    found = edgebench.fidelity(args.runs, calibrate=args.calibrate)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        from edgebench.experiments.fidelity import print_tables

        print_tables(found)
    return 0


def _add_fidelity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run directory to be predicted")
    parser.add_argument(
        "--calibrate",
        action="append",
        default=[],
        metavar="RUN",
        help="a run directory that says what things take (repeatable; none: all others that are predicted)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def report(args: argparse.Namespace) -> int:
    """Rebuild result.json and report.html of a run from its records."""
    return _print_run(edgebench.load_run(args.run_dir, rebuild=True), args.json)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="a run directory")
    parser.add_argument("--json", action="store_true", help="print result.json")


def train(args: argparse.Namespace) -> int:
    """Train a task's models, score them beside a classical baseline, export and keep them."""
    import msgspec

    result = edgebench.train(
        args.task,
        data=args.data,
        size=args.size,
        seeds=args.seeds,
        out=args.out,
        registry=args.registry,
        progress=True,
    )
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(result)).decode())
    else:
        from edgebench.experiments.train import print_tables

        print_tables(result)
    return 0


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="a built-in task, or module:attribute")
    parser.add_argument("--data", metavar="DIR", type=Path, help="the data set's folder (none: generated data)")
    parser.add_argument("--seeds", metavar="N", type=whole, default=3, help="train each model from N seeds (3)")
    parser.add_argument("--size", choices=_SIZES, help="train this size only (light and heavy)")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="write the model (the light one of several) here, and FILE.json"
    )
    parser.add_argument("--registry", metavar="DIR", type=Path, help="put each size's model into this registry")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def profile(args: argparse.Namespace) -> int:
    """Measure how long a node's work takes on a machine, so that others can emulate it."""
    measured = edgebench.profile(
        tasks=args.task,
        sizes=args.size,
        formats=args.format,
        max_batch=args.max_batch,
        train_batches=args.train_batch,
        message_bytes=args.message_bytes,
        quick=args.quick,
        machine=args.machine,
        models=args.models,
        name=args.name,
        out=args.out,
        keep=not args.json,
        meter=args.meter,
        progress=True,
    )
    if args.json:
        from edgebench.topology.profile_files import written

        sys.stdout.write(written(measured).decode())
        return 0
    from edgebench.experiments.profiling.tables import lines_of

    print("\n".join(lines_of(measured)))
    return 0


def _add_profile(parser: argparse.ArgumentParser) -> None:
    more: dict[str, Any] = {"action": "append", "default": []}
    parser.add_argument("--task", metavar="TASK", help="a built-in task, or module:attribute (default: all)", **more)
    parser.add_argument("--size", choices=_SIZES, help="of its models (default: light and heavy)", **more)
    parser.add_argument("--format", metavar="F", help="number format of its models (default: all four)", **more)
    parser.add_argument(
        "--max-batch", type=whole, metavar="N", help="no larger batches of its models (default: those of their files)"
    )
    parser.add_argument(
        "--train-batch", type=whole, metavar="N", help="samples of training steps (default: 32)", **more
    )
    parser.add_argument(
        "--message-bytes",
        type=whole,
        metavar="N",
        help="size of messages to measure besides (default: up to 64 kB, or the largest sample of the tasks)",
        **more,
    )
    parser.add_argument("--quick", action="store_true", help="light models in float32, a minute or two in all")
    parser.add_argument("--machine", metavar="NAME", help="of the lab served here (default: this computer)")
    parser.add_argument("--name", help="of the machine (default: its host name)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write it here (default: keep it by its name)")
    parser.add_argument(
        "--models", metavar="DIR", type=Path, help="models to measure with; made where TensorFlow is (default: cached)"
    )
    lab_commands.add_meter(parser)
    parser.add_argument("--json", action="store_true", help="print it, and keep it nowhere else")


def list_tasks(args: argparse.Namespace) -> int:
    """List the built-in tasks: their models, and the data that they can be learned from."""
    import msgspec

    from edgebench.experiments.listing import TaskListed

    found = edgebench.list_tasks(data=args.data)
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
    add_json(parser)


def list_topologies(_: argparse.Namespace) -> int:
    """List the topologies that ship: each can be run, and copied by init, by its name."""
    found = edgebench.list_topologies()
    width = max(map(len, found), default=0)
    for name, about in found.items():
        print(f"{name:{width}}  {about}")
    return 0


def init(args: argparse.Namespace) -> int:
    """Copy a topology that ships, to change it."""
    print(edgebench.init(args.name, out=args.out))
    return 0


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="see edgebench topologies")
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="PLACE", help="a folder, or the file (default: NAME.yaml here)"
    )


def clean(args: argparse.Namespace) -> int:
    """Remove what runs in containers have left behind, of those that are over."""
    import msgspec

    cleaned = edgebench.clean(images=args.images)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(cleaned)).decode())
        return 0
    for what in ("containers", "networks", "volumes", "images", "labs"):
        for name in getattr(cleaned, what):
            print(f"removed: {name} ({what})")
    for name in cleaned.left:
        print(f"left: {name} (its run goes on, or cannot be seen from here)")
    return 0


def _add_clean(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", action="store_true", help="remove the images, too, which the next run builds anew")
    add_json(parser)


def export(args: argparse.Namespace) -> int:
    """Write a folder that runs a topology in containers elsewhere: by docker compose, or on Kubernetes."""
    topology = edgebench.load(args.file, args.set)
    edgebench.export(args.target, topology, out=args.out, base_image=args.base_image, progress=True)
    print(args.out / "README.md")
    return 0


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", choices=("compose", "k8s"), help="for docker compose, or for Kubernetes")
    add_file(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder, which is not there yet")
    parser.add_argument(
        "--base-image", metavar="IMAGE", help="what its images are made on (default: Python's slim one)"
    )


# Commands import what they need when they run: `validate` starts fast, and on a machine without the lab's packages.
COMMANDS = {
    "validate": Command(validate, _add_validate),
    "schema": Command(schema, _add_nothing),
    "topologies": Command(list_topologies, _add_nothing),
    "init": Command(init, _add_init),
    "tasks": Command(list_tasks, _add_tasks),
    "run": Command(run, _add_run),
    "simulate": Command(simulate, _add_simulate),
    "fidelity": Command(fidelity, _add_fidelity),
    "report": Command(report, _add_report),
    "place": Command(planning_commands.place, planning_commands.add_place),
    "capacity": Command(planning_commands.capacity, planning_commands.add_capacity),
    "compare": Command(comparing_commands.compare, comparing_commands.add_compare),
    "sweep": Command(comparing_commands.sweep, comparing_commands.add_sweep),
    "replay": Command(comparing_commands.replay, comparing_commands.add_replay),
    "train": Command(train, _add_train),
    "profile": Command(profile, _add_profile),
    "clean": Command(clean, _add_clean),
    "export": Command(export, _add_export),
    "lab": Command(lab_commands.lab, lab_commands.add_lab),
    "join": Command(lab_commands.join, lab_commands.add_join),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit status is returned.

    0: done; 1: an invalid run; 2: a user's mistake, one line each on stderr; 75: no mistake, and it may go well in a
    while, likewise; 130: Ctrl-C.
    """
    if argv is None:
        _speak_utf8()
    try:
        args = _parser().parse_args(argv)
    except SystemExit as finished:  # argparse has said what is to be said
        return finished.code if isinstance(finished.code, int) else EXIT_USER_ERROR
    try:
        _refuse_nothing(sys.argv[1:] if argv is None else argv)
        with room_in(Path(getattr(args, "out", None) or "."), "make room, and give the command again"):
            status = COMMANDS[args.command].run(args)
            sys.stdout.flush()
    except EdgebenchError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        if not _reader_has_gone():
            raise
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


def _refuse_nothing(words: Sequence[str]) -> None:
    """An argument without a letter, as a variable of the shell leaves it that is not set: a path of that kind would be
    the folder where one stands. Raises EdgebenchError."""
    for before, word in pairwise((words[0], *words)):
        option, equals, value = word.partition("=")
        if not word or (option.startswith("--") and equals and not value):
            where = option or (before if before.startswith("--") else "")
            what = f"nothing stands behind {where}" if where else "an argument is empty"
            raise EdgebenchError(f"edgebench {words[0]}: {what} (is a variable of the shell not set?)")


def _speak_utf8() -> None:
    """Begin anew in Python's UTF-8 mode, with all processes of a run, where the locale has another encoding.

    Else what a run writes, and the names of its files, would depend on the locale, and a character that it lacks would
    end the run.
    """
    if sys.flags.utf8_mode or codecs.lookup(locale.getencoding()).name == "utf-8":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - itself


def _reader_has_gone() -> bool:
    """Whether nobody reads stdout any more."""
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)
    return bool(poller.poll(0))


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="edgebench", description="An open edge-to-cloud federated AI testbed.")
    parser.add_argument("--version", action="version", version=f"edgebench {edgebench.__version__}")
    commands: Any = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        help_line = (command.run.__doc__ or "").partition("\n")[0]
        command.add_arguments(commands.add_parser(name, help=help_line, description=help_line, allow_abbrev=False))
    return parser


if __name__ == "__main__":
    sys.exit(main())
