"""Inputs that went wrong, each by a real command: what it gave, what it gives, and whether that is right.

    python benchmarks/cases.py [FOLDER] [--only TEXT …] [--json]

FOLDER has inputs that people met (`cases_known.py` says which, and what each gave before it was mended); it is not
written to. Then come those of a stranger, who breaks other loaders and messages in the same ways, and whose inputs are
made here (`cases_strange.py`). Each is tried in a temporary folder of its own, within a time limit, and nothing that it
starts is left running; what a machine lacks for a case is said, and so is an input that the folder lacks.

Printed is a table, as Markdown: input, command, what it gave, the exit status and the last line of what it gives, and
what is right; or JSON: `found`, a list with `case`, `command`, `gave`, `right`, `said`, `status`, `seconds`, `left`
(command lines of what outlived it) and `is_right` (null where it was not tried). The exit status is 1 where a case does
not give what is right, 2 where none was tried. Of a run, what a busy machine alone makes of a verdict does not count.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.case_runs import Case, Found, table, tried
from benchmarks.cases_known import KNOWN
from benchmarks.cases_strange import STRANGE

TITLES = {"known": "What people met", "strange": "What a stranger tried"}


def try_all(cases: Sequence[Case], folder: Path | None, only: Sequence[str]) -> list[Found]:
    """Those whose name has one of some texts, or all, one after another."""
    found = []
    for case in cases:
        if not only or any(text in case.name for text in only):
            print(case.name, file=sys.stderr, flush=True)
            found.append(tried(case, folder))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Try them, and print what came of each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="of inputs that people met")
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="cases whose name has this text (repeatable)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    if args.folder is not None and not args.folder.is_dir():
        parser.error(f"{args.folder}: is no folder")
    folder = None if args.folder is None else args.folder.resolve()
    known = [] if folder is None else try_all(KNOWN, folder, args.only)
    strange = try_all(STRANGE, None, args.only)
    found = [*known, *strange]
    if args.json:
        print(msgspec.json.format(msgspec.json.encode({"found": found})).decode())
    else:
        for name, rows in (("known", known), ("strange", strange)):
            if rows:
                print(f"## {TITLES[name]}\n\n{table(rows)}\n")
    judged = [each.is_right for each in found if each.is_right is not None]
    return 2 if not judged else 0 if all(judged) else 1


if __name__ == "__main__":
    sys.exit(main())
