"""`edgebench compare`, `edgebench replay` and `edgebench sweep`."""

from __future__ import annotations

import argparse
from pathlib import Path

import edgebench
from edgebench.arguments import as_json, whole
from edgebench.errors import EXIT_INVALID_RUN
from edgebench.experiments.places import check_file


def compare(args: argparse.Namespace) -> int:
    """Say what runs differ in, and how far chance alone goes."""
    from edgebench.report.comparison_view import print_comparison, written

    if args.out is not None:
        check_file("--out", args.out)
    found = edgebench.compare(args.runs)
    told = as_json(found)
    if args.out is not None:
        args.out.write_text(f"{told}\n" if args.out.suffix == ".json" else written(found), "utf-8")
    if args.json:
        print(told)
    else:
        print_comparison(found)
    return 0


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories; the first is what others differ from")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write it there, too: as JSON where it is named .json, else as text"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def replay(args: argparse.Namespace) -> int:
    """Run again what a run was, from its run directory alone, and compare the two."""
    from edgebench.report.comparison_view import print_comparison

    replayed = edgebench.replay(args.run_dir, out=args.out, progress=True)
    if args.json:
        print(as_json(replayed.comparison))
    else:
        print_comparison(replayed.comparison)
        print(replayed.run.report)
    return 0 if replayed.run.verdict.valid else EXIT_INVALID_RUN


def add_replay(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("run_dir", metavar="RUN", help="a run directory")
    parser.add_argument("--out", metavar="DIR", help="where the new run directory goes (default: beside RUN)")
    parser.add_argument("--json", action="store_true", help="print the comparison as one JSON object")


def sweep(args: argparse.Namespace) -> int:
    """Run a topology with many settings, and put what comes of all into one table."""
    from edgebench.report.sweep_view import print_sweep

    swept = edgebench.sweep(args.spec, out=args.out, resume=args.resume, processes=args.processes, progress=True)
    if args.json:
        print(as_json(swept))
    else:
        print_sweep(swept)
        print(swept.table)
    return 0 if all(cell.state == "valid" for cell in swept.cells) else EXIT_INVALID_RUN


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("spec", metavar="SPEC", type=Path, help="the file of a sweep")
    parser.add_argument("--out", default="sweeps", metavar="DIR", help="where folders of sweeps go (default: sweeps)")
    parser.add_argument("--resume", action="store_true", help="go on with a sweep that was ended")
    parser.add_argument(
        "--processes",
        type=whole,
        metavar="N",
        help="so many simulated cells at a time (as many as there are cores, and memory for)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
