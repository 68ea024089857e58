"""That the core reads no time but that of the clock it is given; sockets and threads are import-linter's to find."""

from __future__ import annotations

import ast
from pathlib import Path

import edgebench.core

_READS_THE_TIME = {"now_ns", "now_s", "utc_now", "sleep_s", "RealClock"}


def test_no_module_of_the_core_reads_the_machines_clock() -> None:
    modules = sorted(Path(edgebench.core.__file__).parent.glob("*.py"))
    assert len(modules) > 10
    taken = {
        (path.name, alias.name)
        for path in modules
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "edgebench.clock"
        for alias in node.names
    }
    assert not {(name, what) for name, what in taken if what in _READS_THE_TIME}
    assert ("stream.py", "Time") in taken
