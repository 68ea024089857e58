"""numba, and where what it compiles is kept: in the user's cache, never where the package is installed.

A kernel is compiled when it is first called, and found again by later processes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite
import numba
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from edgebench.tasks.cache import cache_dir

_MOST_KEPT = 4
"""States of our sources whose compiled code is kept."""

F = TypeVar("F", bound=Callable[..., object])


def inlined(function: F) -> F:
    """As `jit`, for what kernels call for each message."""
    return _compiled(function, forceinline=True, _nrt=False)


def jit(function: F) -> F:
    """The function, which makes no arrays, compiled when it is first called. References to arrays are not counted in
    it, which would cost more than most of what is done with a message: whoever calls it holds them. NUMBA_CACHE_DIR has
    its usual meaning."""
    return _compiled(function, _nrt=False)


def making(function: F) -> F:
    """As `jit`, for what makes arrays."""
    return _compiled(function, _nrt=True)


@intrinsic
def _prefetch(_: Any, array: Any, row: Any, column: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        of_array, *of_indices = signature.args
        indices = [
            context.cast(builder, value, of_index, types.intp)
            for value, of_index in zip(args[1:], of_indices, strict=True)
        ]
        found = make_array(of_array)(context, builder, args[0])  # type: ignore[no-untyped-call]
        place = cgutils.get_item_pointer(context, builder, of_array, found, indices, wraparound=False)  # type: ignore[no-untyped-call]
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", (cgutils.voidptr_t,), kind)
        to_write, keep_near, data = (number(flag) for flag in (1, 3, 1))
        builder.call(fetch, [builder.bitcast(place, cgutils.voidptr_t), to_write, keep_near, data])
        return context.get_dummy_value()

    return types.void(array, row, column), generate


prefetch = cast(Callable[[NDArray[Any], Any, int], None], _prefetch)
"""Have a processor fetch what is at [row, column] of an array into its cache while it goes on: for what a loop comes to
some rounds later, at places that it cannot guess. Nothing is read, so nothing goes wrong beyond the array."""


def _compiled(function: F, **options: Any) -> F:
    settings = vars(config)
    named = settings["CACHE_DIR"]
    folder = None if named else _folder()
    try:
        if folder is not None:
            settings["CACHE_DIR"] = str(folder)
        is_kept = bool(named) or folder is not None
        return cast(F, numba.njit(cache=is_kept, nogil=True, **options)(function))
    finally:
        settings["CACHE_DIR"] = named


@cache
def _folder() -> Path | None:
    """One for each state of what is compiled, since numba looks at the file of a function alone, and not at those of
    what it calls and of the constants in it; None where nothing can be written."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        source = file.read_bytes()
        if file.name in ("columns.py", "jit.py") or b"simulation.jit import" in source:
            digest.update(source)
    folder = cache_dir() / "compiled" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folders = sorted(folder.parent.iterdir(), key=lambda each: each.stat().st_mtime)
    except OSError:
        return None
    for old in folders[:-_MOST_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder if os.access(folder, os.W_OK) else None
